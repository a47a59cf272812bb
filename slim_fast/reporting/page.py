"""The report: one HTML file that opens offline."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from slim_fast.drawing import style
from slim_fast.errors import UserError, describe_os_error
from slim_fast.writing import encode_text, write_atomically

LINK, GOOD, ATTENTION = style.COLOURS[0], style.COLOURS[2], style.COLOURS[3]


def page_colours() -> dict[str, str]:
    """Custom properties of the page's style sheet: the colours of the project's pictures."""
    people = {f"person-{number}": colour for number, colour in enumerate(style.PEOPLE)}
    named = {"ink": style.INK, "grey": style.GREY, "link": LINK, "good": GOOD}
    return {**named, **style.SIDES, **people, "attention": ATTENTION}


def write_page(path: Path, content: Mapping[str, Any]) -> None:
    """Write page.html filled with `content`, with its style sheet and scripts in it.

    What content holds is escaped, but for the plots. The file is whole or as it was.
    Raises: UserError when it cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    folder = resources.files("slim_fast.reporting")
    parts = {
        "style": (folder / "page.css").read_text("utf-8"),
        "script": (folder / "page.js").read_text("utf-8"),
        "library": get_plotlyjs(),
        "colours": page_colours(),
    }
    environment = Environment(
        loader=PackageLoader("slim_fast", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("page.html").render(**parts, **content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(encode_text(text)))
    except OSError as error:
        raise UserError(
            f"The report could not be written ({describe_os_error(error)}): choose another --out."
        ) from error
