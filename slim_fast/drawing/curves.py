"""Numbers over the steps of a run: losses, learning rate, speed, nearest-neighbour accuracy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slim_fast.drawing import style
from slim_fast.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Panel:
    """One small graph: the record's key, its title, and the share of log K an untrained guess costs (None: no line)."""

    key: str
    title: str
    log_k: float | None = None


PANELS = (
    Panel("loss", "Total loss"),
    Panel("contrastive", "Contrastive loss", log_k=1.0),
    # Half of the global views are masked, and the loss is averaged over all of them.
    Panel("masked", "Masked loss", log_k=0.5),
    Panel("koleo", "KoLeo"),
    Panel("learning_rate", "Learning rate"),
    Panel("samples_per_second", "Samples per second"),
)


def draw_curves(
    records: Sequence[Mapping[str, Any]],
    path: str | Path,
    panels: Sequence[Panel] = PANELS,
    prototypes: int | None = None,
) -> Path:
    """Draw each panel's number over the steps, faint as recorded and bold as a running median; returns the path.

    Args:
        records: of a metrics.jsonl, each with "step"; records without a panel's key, and values that are not finite,
            are passed over, and a panel nobody has a value for is left out.
        path: the picture; its ending gives the format.
        panels: what to draw.
        prototypes: K; given, a line marks what uniform predictions cost.

    Raises:
        UserError: nothing to draw, no matplotlib, or a path that cannot be written.
    """
    series = [(panel, *_series(records, panel.key)) for panel in panels]
    series = [entry for entry in series if len(entry[1])]
    if not series:
        raise UserError("The records hold none of the numbers to draw: " + ", ".join(p.key for p in panels) + ".")
    columns = min(3, len(series))
    lines = -(-len(series) // columns)
    figure = style.new_figure(3.2 * columns, 2.3 * lines)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[len(series) :]:
        axes.remove()
    for i, (axes, (panel, steps, values)) in enumerate(zip(grid, series, strict=False)):
        style.tidy(axes, panel.title, x="step" if i + columns >= len(series) else "")
        axes.plot(steps, values, color=style.tint(style.COLOURS[0], 0.65), linewidth=0.8)
        axes.plot(
            *_running_median(steps, values), color=style.COLOURS[0], linewidth=1.6, marker="" if len(steps) > 1 else "o"
        )
        _limit(axes, values)
        if panel.log_k is not None and prototypes is not None:
            share = "" if panel.log_k == 1 else f"{panel.log_k:g} "
            _reference(axes, panel.log_k * math.log(prototypes), f"uniform guess: {share}log {prototypes:,}")
        if not 1e-2 <= np.abs(values).max() < 1e5:
            axes.yaxis.set_major_formatter(lambda value, _: _number(value))
        axes.locator_params(axis="x", nbins=4, integer=True)
    return style.save(figure, path)


def draw_knn(
    steps: Sequence[int], accuracies: Sequence[float], references: Mapping[str, float], path: str | Path
) -> Path:
    """Draw nearest-neighbour accuracy over the steps beside fixed references; returns the path.

    Args:
        steps: where it was measured.
        accuracies: fractions in [0, 1], one a step.
        references: name -> fraction, e.g. that of a random encoder.
        path: the picture; its ending gives the format.

    Raises:
        UserError: nothing to draw, lengths that differ, a value outside [0, 1], no matplotlib, or a path that cannot
            be written.
    """
    if len(steps) != len(accuracies) or not len(steps):
        raise UserError(f"There are {len(accuracies)} accuracies for {len(steps)} steps: give one for each step.")
    for value in (*accuracies, *references.values()):
        if not 0 <= value <= 1:
            raise UserError(f"The accuracy {value} is not a fraction between 0 and 1.")
    figure = style.new_figure(6.4, 3.4)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    style.tidy(axes, "Nearest-neighbour accuracy on held-out clips", "step", "1-NN accuracy (%)")
    percent = 100 * np.asarray(accuracies)
    axes.plot(steps, percent, color=style.COLOURS[0], linewidth=1.8, marker="o", markersize=4, clip_on=False, zorder=3)
    lines = {name: 100 * value for name, value in references.items()}
    bottom, top = min([*percent, *lines.values()]), max([*percent, *lines.values()])
    room = 0.12 * max(top - bottom, 10)
    axes.set_ylim(max(bottom - room, 0), min(top + room, 100.5))
    if len(steps) == 1:
        axes.set_xlim(steps[0] - 1, steps[0] + 1)
    labels = [("learned", float(percent[-1]), style.COLOURS[0])]
    for (name, value), colour in zip(lines.items(), itertools.cycle(style.COLOURS[1:]), strict=False):
        axes.axhline(value, color=colour, linewidth=1.3, linestyle=(0, (5, 3)), zorder=2)
        labels.append((name, value, colour))
    low, high = axes.get_ylim()
    heights = _spread([value for _, value, _ in labels], 0.075 * (high - low), low, high)
    for (name, value, colour), height in zip(labels, heights, strict=True):
        axes.annotate(
            f"{name} {value:.1f}", (1.02, height), xycoords=("axes fraction", "data"), va="center", color=colour,
            fontsize=style.MEDIUM, annotation_clip=False,
        )  # fmt: skip
    axes.locator_params(axis="x", integer=True)
    return style.save(figure, path)


def _series(records: Sequence[Mapping[str, Any]], key: str) -> tuple[Floats, Floats]:
    """Steps and finite values of the records that have the key, by step."""
    found = [(record["step"], record[key]) for record in records if record.get(key) is not None and "step" in record]
    pairs = np.array(sorted(found), dtype=np.float64).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(1)]
    return pairs[:, 0], pairs[:, 1]


def _running_median(steps: Floats, values: Floats) -> tuple[Floats, Floats]:
    """At up to 400 of the steps, the median of a fortieth of the values around it, of fewer at both ends."""
    index = np.unique(np.linspace(0, len(values) - 1, min(len(values), 400)).round().astype(int))
    reach = np.minimum(np.minimum(index, len(values) - 1 - index), len(values) // 80)
    medians = [np.median(values[i - r : i + r + 1]) for i, r in zip(index, reach, strict=True)]
    return steps[index], np.array(medians)


def _limit(axes: Axes, values: Floats) -> None:
    """Let single spikes of a long curve leave the picture, so that they do not flatten the rest."""
    low, high = np.percentile(values, [0.5, 99.5])
    if len(values) > 200 and high > low:
        axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))


def _reference(axes: Axes, value: float, label: str) -> None:
    low, high = axes.get_ylim()
    low, high = min(low, value), max(high, value)
    axes.set_ylim(low - 0.05 * (high - low), high + 0.15 * (high - low))
    axes.axhline(value, color=style.COLOURS[1], linewidth=1.2, linestyle=(0, (5, 3)))
    axes.annotate(
        label, (0.98, value), xycoords=("axes fraction", "data"), xytext=(0, 2), textcoords="offset points",
        ha="right", va="bottom", fontsize=style.SMALL, color=style.COLOURS[1],
    )  # fmt: skip


def _number(value: float) -> str:
    """A tick of very small or large numbers, short: 1.5e-4."""
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}" if value else "0"


def _spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights for labels: nearest to their values with the gap between neighbours, within the limits where they fit."""
    order = np.argsort(values, kind="stable")
    clusters: list[tuple[float, int]] = []  # (height of the lowest, how many), after pool-adjacent-violators
    for value in np.asarray(values, np.float64)[order]:
        base, count = float(value), 1
        while clusters and clusters[-1][0] + clusters[-1][1] * gap > base:
            under, below = clusters.pop()
            base = (under * below + (base - below * gap) * count) / (below + count)
            count += below
        clusters.append((base, count))
    placed = np.array([base + i * gap for base, count in clusters for i in range(count)])
    rank = np.arange(len(placed))
    placed = np.minimum(placed, high - (len(placed) - 1 - rank) * gap)
    placed = np.maximum(placed, low + rank * gap)
    heights = np.empty_like(placed)
    heights[order] = placed
    return [float(height) for height in heights]
