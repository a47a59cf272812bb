"""People as stick figures: bones and joints in one colour for each side of the body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slim_fast.drawing import style
from slim_fast.skeletons import Topology

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]

RIGHT_TINT = 0.45  # of white in the right side of all but the first person
FULL_SIZE = 0.8  # inches a person is large, from which on lines have their full width


@dataclass
class StickFigures:
    """Lines and dots of all people of a picture, collected to be drawn at once."""

    sides: Sequence[str]
    bones: Sequence[tuple[int, int]]
    # two points, colour, width
    lines: list[tuple[Floats, str, float]] = field(default_factory=list)
    # (face, edge, size) -> points
    dots: dict[tuple[str, str, float], list[Floats]] = field(default_factory=dict)

    def add_person(self, joints: Floats, masked: Bools, person: int) -> None:
        """Add one person, joints (V, 2) in inches; masked (V,): hollow joints and pale bones."""
        colours = person_colours(self.sides, person)
        extent = max(np.ptp(finite_range(joints[:, 0])), np.ptp(finite_range(joints[:, 1])))
        weight = float(np.clip(extent / FULL_SIZE, 0.4, 1).round(1))
        for child, parent in self.bones:
            ends = joints[[child, parent]]
            if np.isfinite(ends).all():
                pale = masked[child] or masked[parent]
                colour = style.PALE if pale else colours[child]
                self.lines.append((ends, colour, weight * (1.0 if pale else 1.8)))
        for joint, colour in enumerate(colours):
            if np.isfinite(joints[joint]).all():
                face, edge = ("white", style.FAINT) if masked[joint] else (colour, colour)
                self.dots.setdefault((face, edge, 7 * weight**2), []).append(joints[joint])

    def draw(self, axes: Axes) -> None:
        """Draw all people added, visible bones above masked ones."""
        from matplotlib.collections import LineCollection

        for masked in (True, False):
            lines = [line for line in self.lines if (line[1] == style.PALE) == masked]
            ends, colours, widths = zip(*lines, strict=True) if lines else ((), (), ())
            axes.add_collection(
                LineCollection(
                    ends, colors=colours, linewidths=widths, capstyle="round", zorder=3 - masked
                )
            )
        for (face, edge, size), points in self.dots.items():
            x, y = np.array(points).T
            axes.scatter(
                x, y, s=size, facecolor=face, edgecolor=edge, linewidth=0.1 * size, zorder=4
            )


def person_colours(sides: Sequence[str], person: int) -> list[str]:
    """A colour for each joint: by side for the first person, else their own, paler on the right."""
    if not person:
        return [style.SIDES[side] for side in sides]
    own = style.PEOPLE[(person - 1) % len(style.PEOPLE)]
    return [style.tint(own, RIGHT_TINT) if side == "right" else own for side in sides]


def legend_entries(people: int) -> list[tuple[str, str]]:
    """(name, colour) of the sides and of each further person, as far as colours differ."""
    names = {"left": "left side", "right": "right side", "trunk": "trunk"}
    entries = [(name, style.SIDES[side]) for side, name in names.items()]
    others = style.PEOPLE[: max(people - 1, 0)]
    return entries + [(f"person {n}", colour) for n, colour in enumerate(others, 2)]


def joint_sides(topology: Topology) -> list[str]:
    """ "left", "right" or "trunk" for each joint, by its name or that of its part."""
    sides = ["trunk"] * topology.num_joints
    for part, joints in topology.parts.items():
        for joint in joints:
            for side in ("left", "right"):
                if side in f"{topology.joints[joint]}_{part}".lower().split("_"):
                    sides[joint] = side
    return sides


def finite_range(values: Floats) -> tuple[float, float]:
    """Smallest and largest finite value, zeros when there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
