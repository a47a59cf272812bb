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

MOST_MARKERS = 40


@dataclass(frozen=True)
class Panel:
    """One graph: the record's key, its title, and the loss of uniform predictions over log K."""

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
    """Draw each panel's number over the steps, with its running median; returns the path.

    Args:
        records: of a metrics.jsonl, each with "step"; records without a panel's key, and values
            that are not finite, are skipped, and a panel without values is left out.
        path: the picture; its ending gives the format.
        panels: what to draw.
        prototypes: K; given, a line marks what uniform predictions cost.

    Raises: UserError for nothing to draw, no matplotlib, or a path that cannot be written.
    """
    series = [(panel, *_series(records, panel.key)) for panel in panels]
    series = [entry for entry in series if len(entry[1])]
    if not series:
        keys = ", ".join(panel.key for panel in panels)
        raise UserError(f"The records hold none of the numbers to draw: {keys}.")
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
        marker = "" if len(steps) > 1 else "o"
        medians = running_median(steps, values)
        axes.plot(*medians, color=style.COLOURS[0], linewidth=1.6, marker=marker)
        _limit(axes, values)
        if panel.log_k is not None and prototypes is not None:
            multiple = "" if panel.log_k == 1 else f"{panel.log_k:g} "
            text = f"uniform guess: {multiple}log {prototypes:,}"
            _reference(axes, panel.log_k * math.log(prototypes), text)
        largest = np.abs(values).max()
        if not 1e-2 <= largest < 1e7:
            axes.yaxis.set_major_formatter(lambda value, _: format_number(value))
        elif largest >= 1e4:
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        else:
            axes.ticklabel_format(axis="y", style="plain", useOffset=False)
        _steps(axes, steps)
    return style.save(figure, path)


def draw_knn(
    steps: Sequence[int],
    accuracies: Sequence[float],
    references: Mapping[str, float],
    path: str | Path,
) -> Path:
    """Draw nearest-neighbour accuracy over the steps beside fixed references; returns the path.

    Args:
        steps: where it was measured.
        accuracies: fractions in [0, 1], one a step.
        references: name -> fraction, e.g. that of a random encoder.
        path: the picture; its ending gives the format.

    Raises: UserError for nothing to draw, lengths that differ, a value outside [0, 1], no
    matplotlib, or a path that cannot be written.
    """
    if len(steps) != len(accuracies) or not len(steps):
        raise UserError(
            f"There are {len(accuracies)} accuracies for {len(steps)} steps: give one for each "
            "step."
        )
    for value in (*accuracies, *references.values()):
        if not 0 <= value <= 1:
            raise UserError(f"The accuracy {value} is not a fraction between 0 and 1.")
    figure = style.new_figure(6.4, 3.4)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    style.tidy(axes, "Nearest-neighbour accuracy on held-out clips", "step", "1-NN accuracy (%)")
    percent = 100 * np.asarray(accuracies)
    marker = "o" if len(steps) <= MOST_MARKERS else ""
    axes.plot(
        steps, percent, color=style.COLOURS[0], lw=1.8, marker=marker, ms=4, clip_on=False, zorder=3
    )
    lines = {name: 100 * value for name, value in references.items()}
    bottom, top = min([*percent, *lines.values()]), max([*percent, *lines.values()])
    margin = 0.12 * max(top - bottom, 10)
    axes.set_ylim(max(bottom - margin, 0), min(top + margin, 100.5))
    _steps(axes, steps)
    labels = [("learned", float(percent[-1]), style.COLOURS[0])]
    for (name, value), colour in zip(
        lines.items(), itertools.cycle(style.COLOURS[1:]), strict=False
    ):
        axes.axhline(value, color=colour, linewidth=1.3, linestyle=(0, (5, 3)), zorder=2)
        labels.append((name, value, colour))
    low, high = axes.get_ylim()
    heights = spread_labels([value for _, value, _ in labels], 0.075 * (high - low), low, high)
    for (name, value, colour), height in zip(labels, heights, strict=True):
        looks = {"color": colour, "fontsize": style.MEDIUM, "annotation_clip": False, "bbox": None}
        style.label(axes, f"{name} {value:.1f}", (1.02, height), (0, 0), at="right", **looks)
    return style.save(figure, path)


def _steps(axes: Axes, steps: Sequence[float] | Floats) -> None:
    """Few ticks at whole steps: 5,000 or 1.5M."""
    if len(steps) == 1:
        axes.set_xlim(steps[0] - 1, steps[0] + 1)
    axes.locator_params(axis="x", nbins=4, integer=True)
    millions = max(steps) >= 1e6
    axes.xaxis.set_major_formatter(
        lambda step, _: f"{step / 1e6:g}M" if millions and step else f"{step:,.10g}"
    )


def _series(records: Sequence[Mapping[str, Any]], key: str) -> tuple[Floats, Floats]:
    """Steps and finite values of the records that have the key, by step."""
    found = [
        (record["step"], record[key])
        for record in records
        if record.get(key) is not None and "step" in record
    ]
    pairs = np.array(sorted(found), dtype=np.float64).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(1)]
    return pairs[:, 0], pairs[:, 1]


def running_median(steps: Floats, values: Floats) -> tuple[Floats, Floats]:
    """At up to 400 steps, the median of the fortieth of all values around each."""
    index = np.unique(np.linspace(0, len(values) - 1, min(len(values), 400)).round().astype(int))
    half = np.minimum(np.minimum(index, len(values) - 1 - index), len(values) // 80)
    medians = [np.median(values[i - r : i + r + 1]) for i, r in zip(index, half, strict=True)]
    return steps[index], np.array(medians)


def _limit(axes: Axes, values: Floats) -> None:
    """Cut single spikes of a long curve off, so that they do not flatten the rest."""
    low, high = np.percentile(values, [0.5, 99.5])
    if len(values) > 200 and high > low:
        axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))


def _reference(axes: Axes, value: float, label: str) -> None:
    """A labelled horizontal line."""
    low, high = axes.get_ylim()
    low, high = min(low, value), max(high, value)
    axes.set_ylim(low - 0.05 * (high - low), high + 0.15 * (high - low))
    axes.axhline(value, color=style.COLOURS[1], linewidth=1.2, linestyle=(0, (5, 3)))
    looks = {"ha": "right", "va": "bottom", "color": style.COLOURS[1]}
    style.label(axes, label, (0.98, value), (0, 2), at="right", **looks)


def format_number(value: float) -> str:
    """A very small or large number for a tick: 1.5e-4."""
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}" if value else "0"


def spread_labels(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights for labels: nearest to their values with `gap` between them, within the limits."""
    from sklearn.isotonic import isotonic_regression

    order = np.argsort(values, kind="stable")
    rank = np.arange(len(order))
    # Heights less rank * gap must rise: a least-squares fit of a rising sequence.
    placed = isotonic_regression(np.asarray(values, np.float64)[order] - rank * gap) + rank * gap
    placed = np.minimum(placed, high - rank[::-1] * gap)
    placed = np.maximum(placed, low + rank * gap)
    heights = np.empty_like(placed)
    heights[order] = placed
    return heights.tolist()
