"""Speed-ups as bars, one a case."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.records.recorder import Result
from slim_fast.drawing import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENGINE = {
    "baseline_training": "Training step against other methods",
    "training_step": "Training step",
    "views": "View pipeline",
    "prototype_loss_time": "Prototype loss",
}
"""What is shown together of the engine, and each one's heading."""
PASSES = {"forward": "Forward", "forward and backward": "Forward and backward"}
PRECISIONS = ("fp32", "bf16", "best")
ONE_COLUMN = 20
"""Rows; more are drawn in two columns."""
ROW = 0.2  # inches


@dataclass(frozen=True)
class Group:
    """Bars under one heading; label and colour of a result's bar."""

    heading: str
    results: Sequence[Result]
    label: Callable[[dict[str, Any]], str]
    colour: Callable[[dict[str, Any]], str]

    @property
    def rows(self) -> float:
        return len(self.results) + 1.5


def draw_inference(results: Sequence[Result], path: Path) -> Path | None:
    """The encoder's inference against each baseline; None when it was not measured."""
    groups = _by_clips(results, "inference", "baseline")
    return _draw(groups, "Inference: times as fast as each baseline", path)


def draw_drop_in(results: Sequence[Result], path: Path) -> Path | None:
    """The drop-in encoder's ways to run; None when none was measured."""
    groups = _by_clips(results, "drop_in", "path")
    return _draw(groups, "Drop-in encoder: times as fast as eager PyTorch", path)


def _by_clips(results: Sequence[Result], benchmark: str, name: str) -> list[Group]:
    """A group for each number of clips and people, in it a bar for each case[`name`]."""
    groups: dict[str, list[Result]] = {}
    names: dict[str, int] = {}
    for result in results:
        if result["benchmark"] == benchmark:
            names.setdefault(result["case"][name], len(names))
            clips, people = result["case"]["clips"], result["case"]["people"]
            heading = f"{_count(clips, 'clip')}, {_count(people, 'person')} each"
            groups.setdefault(heading, []).append(result)

    def rank(result: Result) -> tuple[int, int]:
        return names[result["case"][name]], PRECISIONS.index(result["case"]["precision"])

    def label(case: dict[str, Any]) -> str:
        return f"{case[name]}, {case['precision'].replace('best', 'any precision')}"

    return [
        Group(heading, sorted(rows, key=rank), label, _precision_colour)
        for heading, rows in groups.items()
    ]


def _precision_colour(case: dict[str, Any]) -> str:
    return style.COLOURS[PRECISIONS.index(case["precision"])]


def draw_engine(results: Sequence[Result], path: Path) -> Path | None:
    """The engine against plain implementations; None when nothing of it was timed."""
    groups = [
        Group(
            heading,
            [result for result in results if result["benchmark"] == name],
            _describe,
            lambda _, colour=colour: colour,  # type: ignore[misc]
        )
        for (name, heading), colour in zip(ENGINE.items(), style.COLOURS, strict=False)
    ]
    return _draw(groups, "Times as fast as the baseline", path)


def draw_kernels(results: Sequence[Result], path: Path) -> Path | None:
    """Each op against plain PyTorch; None when none was timed."""
    rows = [result for result in results if result["benchmark"] == "kernels"]
    groups = [
        Group(
            heading,
            [r for r in rows if r["case"]["pass"] == direction],
            lambda case: f"{case['op']}, {case['precision']}",
            _precision_colour,
        )
        for direction, heading in PASSES.items()
    ]
    return _draw(groups, "Kernels: times as fast as plain PyTorch", path)


def _draw(groups: Sequence[Group], title: str, path: Path) -> Path | None:
    groups = [group for group in groups if group.results]
    if not groups:
        return None
    columns = _columns(groups)
    rows = max(sum(group.rows for group in column) for column in columns)
    figure = style.new_figure(7 if len(columns) == 1 else 9, 0.9 + ROW * rows)
    figure.set_layout_engine("constrained")
    figure.suptitle(
        title, x=0.01, ha="left", fontsize=style.LARGE, fontweight="bold", color=style.INK
    )
    shown = [result for group in groups for result in group.results]
    note = "; dotted: target, pale: below it" if any("target" in result for result in shown) else ""
    figure.supxlabel(
        f"baseline / ours, median and quartiles{note}", fontsize=style.MEDIUM, color=style.INK
    )
    # Logarithmic from 1: twice as slow is as long as twice as fast.
    limits = (
        0.92 * min(1, *(r["speedup"][0] for r in shown)),
        1.5 * max(1, *(r["speedup"][2] for r in shown)),
    )
    ticks = [t * 2.0**k for k in range(-6, 12) for t in (1, 1.5)]
    ticks = [t for t in ticks if limits[0] <= t <= limits[1]]
    ticks = ticks if len(ticks) < 8 else [t for t in ticks if math.log2(t).is_integer()]
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    for axes, column in zip(panels, columns, strict=True):
        style.tidy(axes, "")
        axes.grid(False, axis="y")
        axes.set_xscale("log")
        axes.set_xlim(limits)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_ylim(rows - 0.3, -0.5)
        axes.axvline(1, color=style.GREY, linewidth=1)
        _fill(axes, column)
    return style.save(figure, path)


def _columns(groups: Sequence[Group]) -> list[list[Group]]:
    """All groups in one column, or in two of which the longer is as short as can be."""
    if sum(len(group.results) for group in groups) <= ONE_COLUMN or len(groups) == 1:
        return [list(groups)]
    first, *others = groups
    splits = [
        ([first, *(g for g in others if g in left)], [g for g in others if g not in left])
        for count in reversed(range(len(others)))
        for left in combinations(others, count)
    ]
    return list(
        min(splits, key=lambda halves: max(sum(group.rows for group in half) for half in halves))
    )


def _fill(axes: Axes, groups: Sequence[Group]) -> None:
    place, labels = 0.0, {}
    for group in groups:
        bold = {"fontsize": style.SMALL + 0.5, "fontweight": "bold", "color": style.INK}
        style.label(axes, group.heading, (0, place), (4, 0), at="right", **bold)
        for result in group.results:
            place += 1
            labels[place] = group.label(result["case"])
            _bar(axes, place, result, group.colour(result["case"]))
        place += 1.5
    axes.set_yticks(list(labels), list(labels.values()), fontsize=style.SMALL)


def _bar(axes: Axes, place: float, result: Result, colour: str) -> None:
    low, median, high = result["speedup"]
    target = result.get("target")
    missed = target is not None and median < target
    axes.barh(place, median - 1, 0.72, left=1, color=style.tint(colour, 0.55) if missed else colour)
    axes.plot([low, high], [place, place], color=style.INK, linewidth=1.4)
    if target is not None:
        ends = [place - 0.45, place + 0.45]
        axes.plot([target] * 2, ends, color=style.INK, linewidth=1.2, linestyle=":")
    style.label(axes, f"{median:.2f}", (max(high, 1, target or 0), place), (4, 0))


def _count(number: float, noun: str) -> str:
    return f"{number:,g} {noun if number == 1 else {'person': 'people'}.get(noun, noun + 's')}"


def _describe(case: dict[str, Any]) -> str:
    words = {
        "rows": lambda value: f"N = {value:,}",
        "prototypes": lambda value: f"K = {value:,}",
        "batch": lambda value: f"batch {value:,}",
        "views": lambda value: "views made" if value else "views prepared",
    }
    return ", ".join(words.get(name, str)(value) for name, value in case.items())
