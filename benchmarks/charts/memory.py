"""The prototype loss' memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim_fast.drawing import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Result = dict[str, Any]


def draw_memory(results: Sequence[Result], path: Path) -> Path | None:
    """Peak memory of the prototype loss against the number of logits; None when it was not measured."""
    results = [result for result in results if result["benchmark"] == "prototype_loss_memory"]
    if not results:
        return None
    figure = style.new_figure(7.0, 3.6)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    style.tidy(axes, "Peak memory of the prototype loss", "logits, rows N × prototypes K", "peak rise (MB)")
    axes.set_xscale("log")
    axes.set_yscale("log")
    logits = sorted(result["logits_bytes"] for result in results)
    ends = [(count / 4, count / 1e6) for count in (logits[0], logits[-1])]
    axes.plot(*zip(*ends, strict=True), color=style.GREY, linestyle=(0, (5, 3)), linewidth=1.2)
    _name(axes, "one N×K matrix", ends[-1], style.GREY)
    looks = {"baseline": ("materialised", 1), "ours": ("streamed (ours)", 0)}
    for side, (name, number) in looks.items():
        points = sorted(
            (result["case"]["rows"] * result["case"]["prototypes"], max(result["peak_bytes"][side], 1) / 1e6)
            for result in results
            if side in result["peak_bytes"]
        )
        if points:
            colour = style.COLOURS[number]
            axes.plot(*zip(*points, strict=True), color=colour, marker=style.MARKERS[number], linewidth=1.8)
            _name(axes, name, points[-1], colour)
    axes.set_xlim(right=6 * logits[-1] / 4)  # room for the names
    return style.save(figure, path)


def _name(axes: Axes, text: str, end: tuple[float, float], colour: str) -> None:
    """At the end of a line, above others that pass."""
    axes.annotate(
        text, end, (9, 0), textcoords="offset points", va="center", color=colour, fontsize=style.MEDIUM,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
    )  # fmt: skip
