"""Logarithmic axes with plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DENSE = 100
"""The range, largest by smallest, up to which an axis has ticks within a decade."""


def logarithmic(axes: Axes, which: str, values: Sequence[float]) -> None:
    """Make the "x" or "y" axis logarithmic, with ticks that suit the values shown on it."""
    from matplotlib.ticker import LogLocator, NullLocator

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) < DENSE * min(values) else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
