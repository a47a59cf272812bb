"""Logarithmic axes with plain numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FACTORS = {10: (1, 1.5, 2, 3, 5, 7), 100: (1, 2, 5)}
"""Within a decade, what there are ticks at, up to a range (largest by smallest) of the values."""
LETTER = 0.03
"""A letter's width at a tick, and the gap, as a fraction of the axis of a small panel."""


def logarithmic(axes: Axes, which: str, values: Sequence[float]) -> None:
    """Make the "x" or "y" axis logarithmic, with ticks that suit the values shown on it."""
    from matplotlib.ticker import FixedLocator, NullLocator

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    factors = next((f for most, f in FACTORS.items() if max(values) < most * min(values)), (1,))
    axis.set_major_locator(
        FixedLocator([factor * 10.0**power for power in range(-6, 16) for factor in factors])
    )
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def spaced(values: Iterable[float]) -> list[float]:
    """The values whose labels fit beside the next larger one's on a logarithmic axis."""
    values = sorted(values)
    shown = values[-1:]
    for value in reversed(values[:-1]):
        width = (len(f"{value:,}") + len(f"{shown[0]:,}")) / 2 + 1  # letters
        if math.log(shown[0] / value) >= LETTER * width * math.log(values[-1] / values[0]):
            shown.insert(0, value)
    return shown


def legend_below(axes: Axes, lines: dict[str, dict[str, Any]], columns: int, **looks: Any) -> None:
    """A legend below the figure: name -> how its line looks."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **look) for look in lines.values()]
    looks = {"loc": "outside lower center", "ncols": columns, "frameon": False, **looks}
    axes.figure.legend(handles, list(lines), **looks)
