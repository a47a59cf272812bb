"""How time and memory grow with each size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import curves
from benchmarks.charts.axes import logarithmic
from slim_fast.drawing import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Result = dict[str, Any]
Figure = Callable[[Result, str], float | None]
COLUMNS, MOST_TICKS = 3, 6
SIDES = {"ours": 0, "baseline": 1}
LINES: dict[str, Any] = {"bf16": "-", "fp32": (0, (4, 2))}


def draw_scaling(results: Sequence[Result], path: Path) -> Path | None:
    """A panel for each axis, and one for the memory over prototypes; None when nothing was measured."""
    found = curves.curves([result for result in results if result["benchmark"] == "scaling"])
    panels: list[tuple[str, str, Figure]] = [
        (axis, unit, curves.time) for axis, unit in curves.AXES.items() if any(axis == name for name, _ in found)
    ]
    if any(axis == "prototypes" and curves.points(curve, curves.memory, "ours") for (axis, _), curve in found.items()):
        panels.append(("prototypes", "peak MB", curves.memory))
    if not panels:
        return None
    rows, columns = -(-len(panels) // COLUMNS), min(COLUMNS, len(panels))
    figure = style.new_figure(0.4 + 3.0 * columns, 0.5 + 2.6 * rows)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (axis, unit, get) in zip(grid, panels, strict=False):
        style.tidy(axes, f"{axis.capitalize()}: {unit}", curves.LABELS.get(axis, axis))
        _panel(axes, {precision: curve for (name, precision), curve in found.items() if name == axis}, get)
    for axes in grid[len(panels) :]:
        axes.remove()
    _legend(grid[0], sorted({precision for _, precision in found}))
    return style.save(figure, path)


def _panel(axes: Axes, found: dict[str, list[Result]], get: Figure) -> None:
    """The lines of each precision and side, with the measured values at the ticks, as many as find room."""
    heights = []
    for precision, curve in found.items():
        for side, number in SIDES.items():
            points = [(x, y) for x, y in curves.points(curve, get, side) if y > 0]
            heights += [y for _, y in points]
            axes.plot(
                [x for x, _ in points], [y for _, y in points], color=style.COLOURS[number],
                marker=style.MARKERS[number], linestyle=LINES[precision], markersize=5, linewidth=1.6,
            )  # fmt: skip
    logarithmic(axes, "y", heights or [1])
    axes.set_xscale("log")
    values = sorted({result["case"]["value"] for curve in found.values() for result in curve})
    shown = values[:: -(-len(values) // MOST_TICKS)]
    axes.set_xticks(shown, [f"{value:,}" for value in shown])
    axes.set_xticks([], minor=True)


def _legend(axes: Axes, precisions: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    shown = {
        f"{side}, {precision}": Line2D(
            [], [], color=style.COLOURS[number], marker=style.MARKERS[number], linestyle=LINES[precision], markersize=5
        )
        for side, number in SIDES.items()
        for precision in precisions
    }
    axes.figure.legend(
        list(shown.values()), list(shown), loc="outside lower center", ncols=4, frameon=False, fontsize=style.MEDIUM
    )
