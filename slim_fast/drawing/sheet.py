"""Sheets of stick figures: titled rows of poses.

The whole sheet is one pair of axes whose unit is the inch, so every figure keeps its proportions.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slim_fast.drawing import style
from slim_fast.skeletons import Topology

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]

CELL_WIDTH, CELL_HEIGHT, CAPTION, LEGEND, MARGIN = 1.0, 1.25, 0.22, 0.36, 0.1
TITLE_WIDTH, TITLE_LETTERS, TITLE_LINES = 1.8, 21, 6  # of a title to the left of its row
LETTERS, LINE_HEIGHT = 11, 0.18  # of a title above its row: letters a cell, inches a line
MIN_WIDTH = 6.0  # what the legend takes
SECOND_PERSON = 0.5  # share of white in the colours of everybody but the first


@dataclass
class Row:
    """Poses along time.

    ``poses``: each (M, V, 2), rightwards and upwards, NaN where nothing is to be drawn; ``captions``: one a pose;
    ``masks``: each (V,) bool, or None when nothing can be masked.
    """

    title: str
    poses: Sequence[Floats]
    captions: Sequence[str]
    masks: Sequence[Bools] | None = None


@dataclass
class _Ink:
    """Lines and dots of all figures, gathered to be drawn at once."""

    sides: Sequence[str]
    bones: Sequence[tuple[int, int]]
    lines: list[tuple[Floats, str, float]] = field(default_factory=list)  # two points, colour, width
    dots: dict[tuple[str, str], list[Floats]] = field(default_factory=dict)  # (face, edge) -> points

    def figure(self, joints: Floats, masked: Bools, person: int) -> None:
        """Add one person, (V, 2) in inches."""
        colours = [style.SIDES[side] for side in self.sides]
        if person:
            colours = [style.tint(colour, SECOND_PERSON) for colour in colours]
        for child, parent in self.bones:
            ends = joints[[child, parent]]
            if np.isfinite(ends).all():
                hidden = masked[child] or masked[parent]
                self.lines.append((ends, style.PALE if hidden else colours[child], 1.0 if hidden else 1.8))
        for joint, colour in enumerate(colours):
            if np.isfinite(joints[joint]).all():
                look = ("white", style.FAINT) if masked[joint] else (colour, colour)
                self.dots.setdefault(look, []).append(joints[joint])

    def draw(self, axes: Axes) -> None:
        from matplotlib.collections import LineCollection

        for hidden in (True, False):  # what is visible lies on top
            chosen = [line for line in self.lines if (line[1] == style.PALE) == hidden]
            ends, colours, widths = zip(*chosen, strict=True) if chosen else ((), (), ())
            axes.add_collection(
                LineCollection(ends, colors=colours, linewidths=widths, capstyle="round", zorder=3 - hidden)
            )
        for (face, edge), points in self.dots.items():
            x, y = np.array(points).T
            axes.scatter(x, y, s=7, facecolor=face, edgecolor=edge, linewidth=0.7, zorder=4)


def stacked_rows(rows: Sequence[Row], topology: Topology, path: str | Path) -> Path:
    """Draw one row below the other, each to its own scale, with its title at the left; returns the path."""
    width = TITLE_WIDTH + max(len(row.poses) for row in rows) * CELL_WIDTH
    sheet = _Sheet(rows, topology, width, len(rows) * (CELL_HEIGHT + CAPTION))
    for index, row in enumerate(rows):
        top = LEGEND + index * (CELL_HEIGHT + CAPTION)
        sheet.rule(MARGIN, top, width)
        lines = _wrap(row.title, TITLE_LETTERS)
        lines = lines if len(lines) <= TITLE_LINES else [*lines[: TITLE_LINES - 1], "…"]
        sheet.title(lines, MARGIN, top + (CELL_HEIGHT + MARGIN) / 2, "center")
        sheet.poses(row, _scale(row), MARGIN + TITLE_WIDTH, top)
    return sheet.save(path)


def flowing_rows(rows: Sequence[Row], topology: Topology, path: str | Path) -> Path:
    """Draw rows with their titles above, all to one scale and several side by side where they fit; returns the path."""
    columns = max(len(row.poses) for row in rows)
    lines: list[list[Row]] = [[]]
    for row in rows:
        if sum(len(other.poses) for other in lines[-1]) + len(row.poses) > columns:
            lines.append([])
        lines[-1].append(row)
    titles = [[_wrap(row.title, LETTERS * len(row.poses)) for row in line] for line in lines]
    heights = [LINE_HEIGHT * max(map(len, line)) + MARGIN / 2 for line in titles]  # of the titles of each line
    sheet = _Sheet(rows, topology, columns * CELL_WIDTH, sum(heights) + len(lines) * (CELL_HEIGHT + CAPTION))
    scale = min(_scale(row) for row in rows)
    top = LEGEND
    for line, wrapped, height in zip(lines, titles, heights, strict=True):
        left = MARGIN
        for row, title in zip(line, wrapped, strict=True):
            sheet.rule(left, top, len(row.poses) * CELL_WIDTH - MARGIN)
            sheet.title(title, left, top + MARGIN / 2, "top")
            sheet.poses(row, scale, left, top + height)
            left += len(row.poses) * CELL_WIDTH
        top += height + CELL_HEIGHT + CAPTION
    return sheet.save(path)


class _Sheet:
    """Axes in inches from the top left corner, with a legend above."""

    def __init__(self, rows: Sequence[Row], topology: Topology, width: float, height: float) -> None:
        width, height = max(width + 2 * MARGIN, MIN_WIDTH), LEGEND + height + MARGIN
        self.picture = style.new_figure(width, height)
        self.axes = self.picture.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        self.axes.set_axis_off()
        self.ink = _Ink(joint_sides(topology), topology.bones)
        people = max(int(np.isfinite(pose).any((1, 2)).sum()) for row in rows for pose in row.poses)
        _legend(self.axes, width, people > 1, any(row.masks is not None for row in rows))

    def rule(self, left: float, top: float, length: float) -> None:
        self.axes.plot([left, left + length], [top, top], color=style.PALE, linewidth=0.8)

    def title(self, lines: Sequence[str], left: float, y: float, anchor: str) -> None:
        self.axes.text(
            left, y, "\n".join(lines), va=anchor, fontsize=style.MEDIUM, color=style.INK, linespacing=1.25,
            parse_math=False,
        )  # fmt: skip

    def poses(self, row: Row, scale: float, left: float, top: float) -> None:
        # Sideways each pose is centred in its cell; up and down it stays where it is in the row, so that a jump shows.
        height = np.mean(_span(np.stack(row.poses)[..., 1]))
        for column, (pose, caption) in enumerate(zip(row.poses, row.captions, strict=True)):
            centre = left + (column + 0.5) * CELL_WIDTH
            origin = [centre, top + (CELL_HEIGHT + MARGIN) / 2]
            inches = (pose - [np.mean(_span(pose[..., 0])), height]) * [scale, -scale] + origin
            masked = row.masks[column] if row.masks is not None else np.zeros(pose.shape[1], bool)
            for person, joints in enumerate(inches):
                self.ink.figure(joints, masked, person)
            self.axes.text(
                centre, top + CELL_HEIGHT + CAPTION / 2, caption, ha="center", va="center", fontsize=style.SMALL,
                color=style.GREY,
            )  # fmt: skip

    def save(self, path: str | Path) -> Path:
        self.ink.draw(self.axes)
        return style.save(self.picture, path)


def _legend(axes: Axes, width: float, two_people: bool, masks: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=style.SIDES[side], linewidth=2.2, label=name)
        for side, name in (("left", "left side"), ("right", "right side"), ("trunk", "trunk"))
    ]
    if two_people:
        colour = style.tint(style.INK, SECOND_PERSON)
        handles.append(Line2D([], [], color=colour, linewidth=2.2, label="second person, paler"))
    if masks:
        marker = {"marker": "o", "markersize": 4.5, "markerfacecolor": "white", "markeredgecolor": style.FAINT}
        handles.append(Line2D([], [], color=style.PALE, linewidth=1.2, label="masked", **marker))  # type: ignore[arg-type]
    axes.legend(
        handles=handles, loc="center right", bbox_to_anchor=(width - MARGIN, LEGEND / 2), borderaxespad=0,
        bbox_transform=axes.transData, ncols=len(handles), fontsize=style.SMALL + 0.5, frameon=False,
        handlelength=1.6, columnspacing=1.4,
    )  # fmt: skip


def joint_sides(topology: Topology) -> list[str]:
    """ "left", "right" or "trunk" for each joint, by its name or that of its part."""
    sides = ["trunk"] * topology.num_joints
    for part, joints in topology.parts.items():
        for joint in joints:
            for side in ("left", "right"):
                if side in f"{topology.joints[joint]}_{part}".lower().split("_"):
                    sides[joint] = side
    return sides


def _scale(row: Row) -> float:
    """Inches a unit of length such that every pose of the row fits its cell."""
    widths = [np.ptp(_span(pose[..., 0])) for pose in row.poses]
    height = np.ptp(_span(np.stack(row.poses)[..., 1]))
    fits = ((CELL_WIDTH, max(widths)), (CELL_HEIGHT, height))
    return min(((room - MARGIN) / float(size) for room, size in fits if size > 0), default=1.0)


def _span(values: Floats) -> tuple[float, float]:
    """Smallest and largest finite value, zeros when there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


class _Wrapper(textwrap.TextWrapper):
    """Breaks lines at spaces and behind underscores, of which file names are made."""

    wordsep_simple_re = re.compile(r"(\s+)|(?<=_)")


def _wrap(title: str, letters: int) -> list[str]:
    wrapper = _Wrapper(letters, break_on_hyphens=False)
    return [line for part in title.split("\n") for line in wrapper.wrap(part)]
