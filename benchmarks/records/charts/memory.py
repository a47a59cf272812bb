"""The prototype loss' memory."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.records.charts.axes import logarithmic
from benchmarks.records.recorder import Result
from slim_fast.drawing import style

NAME = 0.2
"""Of the axis' width: space for a line's name left of its end."""


def draw_memory(results: Sequence[Result], path: Path) -> Path | None:
    """Peak memory of the prototype loss over the number of logits; None if not measured."""
    results = [result for result in results if result["benchmark"] == "prototype_loss_memory"]
    if not results:
        return None
    figure = style.new_figure(7.0, 3.6)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    style.tidy(
        axes, "Peak memory of the prototype loss", "logits, rows N × prototypes K", "peak rise (MB)"
    )
    logits = sorted(result["logits_bytes"] for result in results)
    ends = [(count / 4, count / 1e6) for count in (logits[0], logits[-1])]
    lines = [("one N×K matrix", style.GREY, "", ends)]
    looks = {"baseline": ("materialised", 1), "ours": ("streamed (ours)", 0)}
    for side, (name, number) in looks.items():
        points = sorted(
            (result["logits_bytes"] / 4, max(result["peak_bytes"][side], 1) / 1e6)
            for result in results
            if side in result["peak_bytes"]
        )
        if points:
            lines.append((name, style.COLOURS[number], style.MARKERS[number], points))
    for which, number in (("x", 0), ("y", 1)):
        logarithmic(axes, which, [point[number] for *_, points in lines for point in points])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:,.10g}M")
    for name, colour, marker, points in lines:
        look: dict[str, Any] = (
            {"marker": marker, "linewidth": 1.8} if marker else {"linestyle": (0, (5, 3))}
        )
        axes.plot(*zip(*points, strict=True), color=colour, **look)
        # above the line's end, where it has not been: all of them rise
        aligned = {"ha": "right", "va": "bottom", "fontsize": style.MEDIUM}
        style.label(axes, name, points[-1], (-7, 4), color=colour, **aligned)
    axes.margins(0.05, 0.1)
    left, right = map(math.log, axes.get_xlim())
    first = min(math.log(points[-1][0]) for *_, points in lines)
    axes.set_xlim(left=math.exp(min(left, (first - NAME * right) / (1 - NAME))))
    return style.save(figure, path)
