"""The results as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slim_fast.drawing import style

Result = dict[str, Any]


def draw_memory(results: Sequence[Result], path: Path) -> Path | None:
    """Peak memory of the prototype loss against the number of logits; None when it was not measured."""
    results = [result for result in results if result["benchmark"] == "prototype_loss_memory"]
    if not results:
        return None
    figure = style.new_figure(6.4, 3.6)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    style.tidy(axes, "Peak memory of the prototype loss", "logits, rows N × prototypes K", "peak rise (MB)")
    looks = {"baseline": ("materialised", 1), "ours": ("streamed (ours)", 0)}
    for side, (name, number) in looks.items():
        points = sorted(
            (result["case"]["rows"] * result["case"]["prototypes"], max(result["peak_bytes"][side], 1) / 1e6)
            for result in results
            if side in result["peak_bytes"]
        )
        colour = style.COLOURS[number]
        axes.plot(*zip(*points, strict=True), color=colour, marker=style.MARKERS[number], linewidth=1.8)
        axes.annotate(
            name, points[-1], (8, 0), textcoords="offset points", va="center", color=colour, fontsize=style.MEDIUM,
            annotation_clip=False,
        )  # fmt: skip
    logits = sorted(result["logits_bytes"] for result in results)
    ends = [logits[0], logits[-1]]
    axes.plot([n / 4 for n in ends], [n / 1e6 for n in ends], color=style.GREY, linestyle=(0, (5, 3)), linewidth=1.2)
    axes.annotate(
        "one N×K matrix",
        (ends[1] / 4, ends[1] / 1e6),
        (8, 0),
        textcoords="offset points",
        va="center",
        color=style.GREY,
        fontsize=style.MEDIUM,
        annotation_clip=False,
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(right=ends[1])  # four times the logits: room for the names
    return style.save(figure, path)


def draw_speedups(results: Sequence[Result], path: Path) -> Path | None:
    """How many times faster than its baseline each case is, with quartiles; None when nothing was timed."""
    results = [result for result in results if "speedup" in result]
    if not results:
        return None
    names = {"training_step": "training step", "views": "views", "prototype_loss_time": "prototype loss"}
    kinds = [name for name in names if any(result["benchmark"] == name for result in results)]
    ordered = [result for kind in kinds for result in results if result["benchmark"] == kind]
    figure = style.new_figure(7.0, 0.9 + 0.24 * len(ordered))
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    style.tidy(axes, "Times as fast as the baseline", "baseline / ours, median and quartiles")
    axes.grid(False, axis="y")
    for place, result in enumerate(ordered):
        low, median, high = result["speedup"]
        colour = style.COLOURS[kinds.index(result["benchmark"])]
        axes.barh(place, median, 0.72, color=colour)
        axes.plot([low, high], [place, place], color=style.INK, linewidth=1.4)
        axes.annotate(
            f"{median:.2f}", (high, place), (4, 0), textcoords="offset points", va="center", fontsize=style.SMALL
        )
        if "target" in result:
            axes.plot([result["target"]] * 2, [place - 0.45, place + 0.45], color=style.INK, linewidth=1, linestyle=":")
    axes.axvline(1, color=style.GREY, linewidth=1)
    axes.set_yticks(range(len(ordered)), [f"{names[r['benchmark']]}: {_describe(r['case'])}" for r in ordered])
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.set_xlim(left=0)
    return style.save(figure, path)


def _describe(case: dict[str, Any]) -> str:
    words = {
        "sizes": lambda value: value,
        "rows": lambda value: f"N = {value:,}",
        "prototypes": lambda value: f"K = {value:,}",
        "batch": lambda value: f"batch {value:,}",
        "views": lambda value: "views made" if value else "views prepared",
        "precision": lambda value: value,
    }
    return ", ".join(words[name](value) for name, value in case.items())
