"""The style of every picture: colours, sizes, and saving a figure atomically.

matplotlib is imported inside the functions: the package works without it, and nothing touches
pyplot's global state.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slim_fast.errors import UserError
from slim_fast.writing import replace_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
MAX_PIXELS = 2**16 - 1  # Agg draws no longer side
INK = "#222222"
GREY = "#7a7a7a"
FAINT = "#a8a8a8"
PALE = "#dcdcdc"
# Okabe and Ito's colours, distinct in every common form of colour blindness; their yellow is too
# pale for thin lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
MARKERS = ("o", "^", "s", "P", "v", "X", "D", "<", "*", ">")
SIDES = {"left": COLOURS[0], "right": COLOURS[1], "trunk": INK}  # of the first person
PEOPLE = COLOURS[2:6]  # of the other people, cyclically
SMALL, MEDIUM, LARGE = 8, 9.5, 11  # points
# behind texts, where lines pass
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8}


def new_figure(width: float, height: float) -> Figure:
    """A white figure of that size in inches, drawn by Agg.

    Raises: UserError when matplotlib is not installed, or the picture would be larger than Agg can
    draw.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "Drawing needs matplotlib, which is not installed: run `pip install matplotlib`."
        ) from error
    check_size(width, height)
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def check_size(width: float, height: float) -> None:
    """Raises UserError when Agg cannot draw so many inches."""
    if max(width, height) * DPI > MAX_PIXELS:
        raise UserError(
            f"A picture of {width:.0f} by {height:.0f} inches is too large to draw: draw fewer "
            "rows."
        )


def tidy(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """Title and axis names; only the left and bottom spines, and a faint grid behind the data."""
    axes.set_title(
        title, loc="left", fontsize=LARGE, fontweight="bold", color=INK, parse_math=False
    )
    axes.set_xlabel(x, fontsize=MEDIUM, color=INK)
    axes.set_ylabel(y, fontsize=MEDIUM, color=INK)
    axes.tick_params(color=GREY, labelcolor=INK, labelsize=SMALL + 0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(True, color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)


def label(
    axes: Axes, text: str, point: tuple[float, float], offset: tuple[float, float], **looks: Any
) -> None:
    """Text on PAPER at a point of the data, `offset` points away; looks: as of matplotlib's texts.

    at="right": x counts in fractions of the axes.
    """
    data = ("axes fraction", "data") if looks.pop("at", "") == "right" else "data"
    looks = {"bbox": PAPER, "va": "center", "fontsize": SMALL, **looks}
    axes.annotate(text, point, offset, xycoords=data, textcoords="offset points", **looks)


def tint(colour: str, white: float) -> str:
    """A colour mixed with the fraction `white` of white."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * white):02x}" for part in parts)


def save(figure: Figure, path: str | Path) -> Path:
    """Write the figure to ``path`` atomically, in the format of its ending (png, pdf, svg, ...).

    Raises: UserError when the ending is not a picture format, or the folder cannot be written.
    """
    path = Path(path)
    kinds = figure.canvas.get_supported_filetypes()
    kind = path.suffix.removeprefix(".").lower()
    if kind not in kinds:
        raise UserError(
            f"Cannot draw {path}: name it with one of the endings {', '.join(sorted(kinds))}."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as temporary:
            figure.savefig(temporary, format=kind)
    except OSError as error:
        raise UserError(f"Cannot write the picture {path}: {error.strerror or error}.") from error
    return path
