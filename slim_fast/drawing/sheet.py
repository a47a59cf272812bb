"""Sheets of stick figures: titled rows of poses.

The whole sheet is one pair of axes whose unit is the inch, so every figure keeps its proportions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slim_fast.drawing import style
from slim_fast.drawing.lettering import Letters
from slim_fast.drawing.stick_figures import (
    Bools,
    Floats,
    StickFigures,
    finite_range,
    joint_sides,
    legend_entries,
)
from slim_fast.skeletons import Topology

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CELL_WIDTH, CELL_HEIGHT, CAPTION, LEGEND, MARGIN = 1.1, 1.25, 0.22, 0.36, 0.1
# of a title to the left of its row: inches, and most lines of each of its two parts
TITLE_WIDTH, TITLE_LINES = 1.8, 4
COLUMNS = 8  # cells of a line, as long as no row is longer
LINE_SPACING = 1.3


@dataclass
class Row:
    """Poses along time.

    ``title``: its first line is the heading; ``poses``: each (M, V, 2), rightwards and upwards, NaN
    where nothing is to be drawn; ``captions``: one a pose; ``masks``: each (V,) bool, or None when
    nothing can be masked; ``cells``: how many cells wide each pose is.
    """

    title: str
    poses: Sequence[Floats]
    captions: Sequence[str]
    masks: Sequence[Bools] | None = None
    cells: int = 1

    @property
    def pose_width(self) -> float:
        """Inches for each pose."""
        return self.cells * CELL_WIDTH

    @property
    def width(self) -> float:
        """Inches for all poses."""
        return len(self.poses) * self.pose_width

    @property
    def people(self) -> int:
        """Number of people up to the last one present in some pose."""
        present = np.isfinite(np.stack(self.poses)).any((0, 2, 3))
        return int(np.flatnonzero(present)[-1]) + 1 if present.any() else 0


def stacked_rows(rows: Sequence[Row], topology: Topology, path: str | Path) -> Path:
    """Draw rows below each other, each to its own scale, titles at the left; returns the path."""
    width = TITLE_WIDTH + max(row.width for row in rows)
    sheet = _Sheet(rows, topology, width, len(rows) * (CELL_HEIGHT + CAPTION))
    for index, row in enumerate(rows):
        top = LEGEND + index * (CELL_HEIGHT + CAPTION)
        sheet.draw_rule(MARGIN, top, sheet.width - 2 * MARGIN)
        title = sheet.wrap(row.title, TITLE_WIDTH - MARGIN)
        sheet.draw_title(title, MARGIN, top + (CELL_HEIGHT + CAPTION - _height(title)) / 2)
        sheet.draw_poses(row, _scale(row), MARGIN + TITLE_WIDTH, top)
    return sheet.save(path)


def flowing_rows(rows: Sequence[Row], topology: Topology, path: str | Path) -> Path:
    """Draw rows to one scale, titles above, side by side where they fit; returns the path."""
    width = CELL_WIDTH * max(
        min(COLUMNS, sum(len(row.poses) for row in rows)), *(len(row.poses) for row in rows)
    )
    lines: list[list[Row]] = [[]]
    for row in rows:
        if sum(other.width for other in lines[-1]) + row.width > width + 1e-9:
            lines.append([])
        lines[-1].append(row)
    sheet = _Sheet(rows, topology, width)
    titles = [[sheet.wrap(row.title, row.width - MARGIN) for row in line] for line in lines]
    heights = [MARGIN + max(map(_height, line)) for line in titles]  # of the titles of each line
    sheet.set_height(sum(heights) + len(lines) * (CELL_HEIGHT + CAPTION))
    scale = min(_scale(row) for row in rows)
    top = LEGEND
    for line, wrapped, height in zip(lines, titles, heights, strict=True):
        left = MARGIN
        for row, title in zip(line, wrapped, strict=True):
            sheet.draw_rule(left, top, row.width - MARGIN)
            sheet.draw_title(title, left, top + MARGIN / 2)
            sheet.draw_poses(row, scale, left, top + height)
            left += row.width
        top += height + CELL_HEIGHT + CAPTION
    return sheet.save(path)


Title = list[tuple[str, float, str]]  # lines: words, points, colour


def _height(title: Title) -> float:
    """Inches."""
    return sum(size for _, size, _ in title) * LINE_SPACING / 72


class _Sheet:
    """Axes in inches from the top left corner, with a legend above."""

    def __init__(
        self, rows: Sequence[Row], topology: Topology, width: float, height: float = 0
    ) -> None:
        self.letters = Letters(row.title for row in rows)
        people = max(row.people for row in rows)
        entries = [
            (name, {"color": colour, "linewidth": 2.2}) for name, colour in legend_entries(people)
        ]
        if any(row.masks is not None for row in rows):
            dots = {
                "marker": "o",
                "markersize": 4.5,
                "markerfacecolor": "white",
                "markeredgecolor": style.FAINT,
            }
            entries.append(("masked", {"color": style.PALE, "linewidth": 1.2, **dots}))
        legend = sum(self.letters.width(name, style.SMALL + 0.5) + 0.45 for name, _ in entries)
        self.width = max(width, legend) + 2 * MARGIN
        self.picture = style.new_figure(self.width, LEGEND + height + MARGIN)
        self.axes = self.picture.add_axes((0, 0, 1, 1), xlim=(0, self.width))
        self.axes.set_axis_off()
        self.set_height(height)
        self.figures = StickFigures(joint_sides(topology), topology.bones)
        _legend(self.axes, self.width, entries)

    def set_height(self, height: float) -> None:
        """Resize the sheet for rows of this total height."""
        style.check_size(self.width, LEGEND + height + MARGIN)
        self.picture.set_size_inches(self.width, LEGEND + height + MARGIN)
        self.axes.set_ylim(LEGEND + height + MARGIN, 0)

    def draw_rule(self, left: float, top: float, length: float) -> None:
        self.axes.plot([left, left + length], [top, top], color=style.PALE, linewidth=0.8)

    def wrap(self, title: str, width: float) -> Title:
        """Lines of the heading, and smaller grey ones of what follows its line break."""
        heading, _, more = title.partition("\n")
        parts = ((heading, style.MEDIUM, style.INK), (more, float(style.SMALL), style.GREY))
        return [
            (line, size, colour)
            for words, size, colour in parts
            for line in self.letters.wrap(words.replace("\n", " "), size, width, TITLE_LINES)
        ]

    def draw_title(self, lines: Title, left: float, top: float) -> None:
        family = self.letters.family
        for words, size, colour in lines:
            self.axes.text(
                left, top, words, va="top", size=size, color=colour, family=family, parse_math=False
            )
            top += size * LINE_SPACING / 72

    def draw_poses(self, row: Row, scale: float, left: float, top: float) -> None:
        # Sideways each pose is centred in its cell; up and down it stays where it is in the row, so
        # that a jump shows.
        height = np.mean(finite_range(np.stack(row.poses)[..., 1]))
        for column, (pose, caption) in enumerate(zip(row.poses, row.captions, strict=True)):
            centre = left + (column + 0.5) * row.pose_width
            origin = [centre, top + (CELL_HEIGHT + MARGIN) / 2]
            middle = [np.mean(finite_range(pose[..., 0])), height]
            inches = (pose - middle) * [scale, -scale] + origin
            masked = row.masks[column] if row.masks is not None else np.zeros(pose.shape[1], bool)
            for person, joints in enumerate(inches):
                self.figures.add_person(joints, masked, person)
            if row.people > 1 and column:  # whose frame people belong to
                border = centre - row.pose_width / 2
                self.axes.plot(
                    [border] * 2, [top + MARGIN, top + CELL_HEIGHT], color=style.PALE, linewidth=0.8
                )
            y = top + CELL_HEIGHT + CAPTION / 2
            self.axes.text(
                centre, y, caption, ha="center", va="center", size=style.SMALL, color=style.GREY
            )

    def save(self, path: str | Path) -> Path:
        self.figures.draw(self.axes)
        return style.save(self.picture, path)


def _legend(axes: Axes, width: float, entries: Sequence[tuple[str, dict[str, Any]]]) -> None:
    from matplotlib.lines import Line2D

    axes.legend(
        handles=[Line2D([], [], label=name, **style) for name, style in entries],
        loc="center right",
        bbox_to_anchor=(width - MARGIN, LEGEND / 2),
        borderaxespad=0,
        bbox_transform=axes.transData,
        ncols=len(entries),
        fontsize=style.SMALL + 0.5,
        frameon=False,
        handlelength=1.6,
        columnspacing=1.2,
        handletextpad=0.5,
    )


def cells_needed(poses: Sequence[Floats], most: int) -> int:
    """Cells, 1, 2, 4, ... up to `most`, for people three quarters as large as the height allows."""
    stacked = np.stack(poses)  # (T, M, V, 2)
    people = stacked.reshape(-1, *stacked.shape[2:])
    sizes = [np.ptp(finite_range(person[:, axis])) for person in people for axis in (0, 1)]
    height = np.ptp(finite_range(stacked[..., 1]))
    allowed = (CELL_HEIGHT - MARGIN) / max(map(float, (height, *sizes, 1e-12)))
    cells = 1
    while 2 * cells <= most and _scale(Row("", poses, [], cells=cells)) < 0.75 * allowed:
        cells *= 2
    return cells


def _scale(row: Row) -> float:
    """Inches a unit of length such that every pose of the row fits its width."""
    widths = [np.ptp(finite_range(pose[..., 0])) for pose in row.poses]
    height = np.ptp(finite_range(np.stack(row.poses)[..., 1]))
    aside = 2 * MARGIN if row.people > 1 else MARGIN  # clear of the lines between frames
    fits = ((row.pose_width - aside, max(widths)), (CELL_HEIGHT - MARGIN, height))
    return min((limit / float(size) for limit, size in fits if size > 0), default=1.0)
