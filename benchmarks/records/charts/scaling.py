"""How time and memory grow with each size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.records import curves
from benchmarks.records.charts.axes import legend_below, logarithmic, spaced
from benchmarks.records.recorder import Result
from slim_fast.drawing import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Figure = Callable[[Result, str], float | None]
COLUMNS = 3
SIDES = {"ours": 0, "baseline": 1}
LINES: dict[str, Any] = {"bf16": "-", "fp32": (0, (4, 2))}


def draw_scaling(results: Sequence[Result], path: Path) -> Path | None:
    """A panel for each axis, and one for the memory over prototypes; None if not measured."""
    found = curves.curves([result for result in results if result["benchmark"] == "scaling"])
    panels: list[tuple[str, str, Figure]] = [
        (axis, unit, curves.time)
        for axis, unit in curves.AXES.items()
        if any(axis == name for name, _ in found)
    ]
    if any(
        axis == "prototypes" and curves.points(curve, curves.memory, "ours")
        for (axis, _), curve in found.items()
    ):
        panels.append(("prototypes", "peak MB", curves.memory))
    if not panels:
        return None
    rows, columns = -(-len(panels) // COLUMNS), min(COLUMNS, len(panels))
    figure = style.new_figure(0.4 + 3.0 * columns, 0.5 + 2.6 * rows)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (axis, unit, get) in zip(grid, panels, strict=False):
        style.tidy(axes, f"{axis.capitalize()}: {unit}", curves.LABELS.get(axis, axis))
        own = {precision: curve for (name, precision), curve in found.items() if name == axis}
        _panel(axes, own, get)
    for axes in grid[len(panels) :]:
        axes.remove()
    lines = {
        f"{side}, {precision}": look(number, precision)
        for side, number in SIDES.items()
        for precision in sorted({precision for _, precision in found})
    }
    legend_below(grid[0], lines, 4, fontsize=style.MEDIUM, handlelength=3.2)
    return style.save(figure, path)


def look(side: int, precision: str) -> dict[str, Any]:
    """How a side's line looks."""
    own = {"color": style.COLOURS[side], "marker": style.MARKERS[side]}
    return {**own, "linestyle": LINES[precision], "markersize": 5}


def _panel(axes: Axes, found: dict[str, list[Result]], get: Figure) -> None:
    """The lines of each precision and side, with as many measured values at the ticks as fit."""
    heights = []
    for precision, curve in found.items():
        for side, number in SIDES.items():
            points = [(x, y) for x, y in curves.points(curve, get, side) if y > 0]
            heights += [y for _, y in points]
            x, y = np.array(points).reshape(-1, 2).T
            axes.plot(x, y, linewidth=1.6, **look(number, precision))
    logarithmic(axes, "y", heights or [1])
    axes.set_xscale("log")
    shown = spaced({result["case"]["value"] for curve in found.values() for result in curve})
    axes.set_xticks(shown, [f"{value:,}" for value in shown])
    axes.set_xticks([], minor=True)
