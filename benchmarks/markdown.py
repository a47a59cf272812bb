"""Tables as text, and pages whose generated parts stand between markers."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from slim_fast.errors import UserError
from slim_fast.writing import write_atomically


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 0) -> str:
    """A markdown table, the first `left` columns aligned to the left, the others to the right."""
    rule = ["---" if column < left else "---:" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def plain_table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """The same for a terminal: columns padded to their widest cell, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<" if column < left else ">" for column in range(len(widths))]
    lines = (
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def find_pages(paths: Iterable[Path]) -> list[Path]:
    """The files among the paths, and every *.md file below the folders among them."""
    return [
        page for path in paths for page in (sorted(path.rglob("*.md")) if path.is_dir() else [path])
    ]


def replace_section(text: str, name: str, markdown: str) -> str | None:
    """The text with markdown between `<!-- name:begin -->` and `<!-- name:end -->`; None without.

    Raises: UserError when one of the two markers is missing or the end comes first.
    """
    first, last = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    begin, end = text.find(first), text.find(last)
    if begin < 0 and end < 0:
        return None
    if begin < 0 or end < begin:
        raise UserError(f"the table needs the lines {first} and {last} around it, in this order.")
    return f"{text[: begin + len(first)]}\n{markdown}\n{text[end:]}"


def write_section(pages: Iterable[Path], name: str, markdown: Callable[[Path], str]) -> bool:
    """Replace the section in every page that has its markers; returns whether any has.

    markdown: makes the section's text for a page, relative to which its links are.
    Raises: UserError naming a page that cannot be read or written, or whose markers are not a pair.
    """
    found = False
    for page in pages:
        try:
            changed = replace_section(page.read_text(encoding="utf-8"), name, markdown(page))
            if changed is not None:
                found = True
                write_atomically(page, lambda file, text=changed: file.write(text.encode()))
        except UserError as failure:
            raise UserError(f"{page}: {failure}") from failure
        except OSError as failure:
            raise UserError(f"{page} cannot be changed: {failure.strerror}.") from failure
    return found
