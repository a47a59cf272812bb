"""One look for every picture: colours, sizes, and saving a figure in one piece.

matplotlib is imported inside the functions: the package works without it, and nothing touches pyplot's global state.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from slim_fast.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
MAX_PIXELS = 2**16 - 1  # Agg draws no longer side
INK = "#222222"
GREY = "#7a7a7a"
FAINT = "#a8a8a8"
PALE = "#dcdcdc"
# Okabe and Ito's colours, told apart in every common form of colour blindness; their yellow is too pale for thin lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
MARKERS = ("o", "^", "s", "P", "v", "X", "D", "<", "*", ">")
SIDES = {"left": COLOURS[0], "right": COLOURS[1], "trunk": INK}
SMALL, MEDIUM, LARGE = 8, 9.5, 11  # points


def new_figure(width: float, height: float) -> Figure:
    """A white figure of that size in inches, drawn by Agg.

    Raises:
        UserError: matplotlib is not installed, or the picture would be larger than Agg can draw.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("Drawing needs matplotlib, which is not installed: run `pip install matplotlib`.") from error
    if max(width, height) * DPI > MAX_PIXELS:
        raise UserError(f"A picture of {width:.0f} by {height:.0f} inches is too large to draw: draw fewer rows.")
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """Title and axis names; only the left and bottom spines, and a faint grid behind the data."""
    axes.set_title(title, loc="left", fontsize=LARGE, fontweight="bold", color=INK, parse_math=False)
    axes.set_xlabel(x, fontsize=MEDIUM, color=INK)
    axes.set_ylabel(y, fontsize=MEDIUM, color=INK)
    axes.tick_params(color=GREY, labelcolor=INK, labelsize=SMALL + 0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(True, color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)


def tint(colour: str, share: float) -> str:
    """A colour mixed with that share of white."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)


def save(figure: Figure, path: str | Path) -> Path:
    """Write the figure to ``path``, in the format of its ending (png, pdf, svg, ...): whole or not at all.

    Raises:
        UserError: the ending is not a picture format, or the folder cannot be written.
    """
    path = Path(path)
    kinds = figure.canvas.get_supported_filetypes()
    kind = path.suffix.removeprefix(".").lower()
    if kind not in kinds:
        raise UserError(f"Cannot draw {path}: name it with one of the endings {', '.join(sorted(kinds))}.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            figure.savefig(temporary, format=kind)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write the picture {path}: {error.strerror or error}.") from error
    return path
