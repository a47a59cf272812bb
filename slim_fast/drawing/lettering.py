"""Text in pictures: fonts that have its characters, its width, and line breaks.

matplotlib falls back from one font family to the next, but neither looks for installed fonts that
have a character, nor wraps or shortens a line to a width; this does.
"""

import functools
import re
import unicodedata
import warnings
from bisect import bisect_right
from collections.abc import Iterable

from slim_fast.drawing import style

OWN_FONT = "DejaVu Sans"  # comes with matplotlib
BOX = "□"
# lines break between these: at spaces, and after what separates parts of file names
_PIECES = re.compile(r"\s*[^\s_/\\]+[_/\\]*|\s*[_/\\]+")
# fonts whose glyphs are boxes for every character
_BLANK = re.compile("last ?resort|fallback|blank", re.IGNORECASE)
_MOST_NAMED = 12  # characters without a font that the warning lists


class Letters:
    """Fonts for all text of a picture.

    Characters that no installed font has become boxes, and one warning lists them.

    Attributes:
        family: font families, as `fontfamily` of a matplotlib text.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._renderer = style.new_figure(1, 1).canvas.get_renderer()  # type: ignore[attr-defined]
        needed = {letter for text in texts for letter in text if not letter.isspace()}
        self.family, self._missing = _families(frozenset(needed))
        shown = sorted(letter for letter in self._missing if not _invisible(letter))
        if shown:
            warnings.warn(
                f"No installed font has the characters {' '.join(shown[:_MOST_NAMED])}"
                f"{' …' if len(shown) > _MOST_NAMED else ''}: boxes stand for them in the picture. "
                "Install one that has them (Noto Sans CJK, for Chinese, Japanese and Korean) and "
                "draw again.",
                stacklevel=3,
            )

    def legible(self, text: str) -> str:
        """The text with boxes for characters that no font has."""
        return "".join(
            letter if letter not in self._missing else "" if _invisible(letter) else BOX
            for letter in text
        )

    def class_name(self, number: int, name: str) -> str:
        """A class's name, preceded by its number where boxes hide some of it."""
        name = self.legible(name)
        return f"class {number}: {name}" if BOX in name else name

    def file(self, text: str) -> str:
        """The font file that has most of the text's characters, the first of several."""
        from matplotlib.font_manager import FontProperties, findfont

        paths = [findfont(FontProperties(family)) for family in self.family]
        return max(paths, key=lambda path: len(_letters(path).intersection(text)))

    def width(self, text: str, size: float, weight: str = "normal") -> float:
        """Inches of one line of text, `size` in points."""
        from matplotlib.font_manager import FontProperties

        font = FontProperties(family=self.family, size=size, weight=weight)
        return float(self._renderer.get_text_width_height_descent(text, font, False)[0]) / style.DPI

    def elide(self, text: str, size: float, limit: float, weight: str = "normal") -> str:
        """One line of at most `limit` inches, shortened in the middle."""
        text = self.legible(text)
        if self.width(text, size, weight) <= limit:
            return text

        def shortened(letters: int) -> str:
            start, end = text[: (letters + 1) // 2], text[len(text) - letters // 2 :]
            return f"{start.rstrip()}…{end.lstrip()}"

        letters = bisect_right(
            range(1, len(text)), limit, key=lambda n: self.width(shortened(n), size, weight)
        )
        return shortened(letters)

    def wrap(
        self, text: str, size: float, limit: float, lines: int, weight: str = "normal"
    ) -> list[str]:
        """At most `lines` lines of `limit` inches, broken at spaces, "_", "/" and backslashes."""
        out, line = [], ""
        for piece in _PIECES.findall(self.legible(text).strip()):
            if self.width(line + piece, size, weight) <= limit:
                line += piece
                continue
            out += [line] if line else []
            line = piece.lstrip()
            while self.width(line, size, weight) > limit and len(line) > 1:
                fits = functools.partial(lambda text, n: self.width(text[:n], size, weight), line)
                cut = max(1, bisect_right(range(1, len(line)), limit, key=fits))
                out.append(line[:cut])
                line = line[cut:]
        out += [line] if line else []
        if len(out) > lines:
            rest = out[lines - 1] + "…" + out[-1]
            out[lines - 1 :] = [self.elide(rest, size, limit, weight)]
        return out


def _invisible(letter: str) -> bool:
    """Whether a character only changes its neighbours: joiners, variants, accents."""
    return unicodedata.category(letter) in ("Cf", "Mn", "Me")


@functools.cache
def _families(needed: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Font families that together have the characters, in order, and the characters none has."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    families, missing = [OWN_FONT], needed - _letters(findfont(FontProperties(OWN_FONT)))
    others: dict[str, list[str]] = {}
    for e in fontManager.ttflist:
        if e.style == "normal" and not _BLANK.search(e.name):
            others.setdefault(e.name, []).append(e.fname)
    while missing:
        best, found = "", frozenset[str]()
        for name, paths in others.items():
            # in every weight, since text is drawn bold too
            has = missing.intersection(*map(_letters, paths))
            if len(has) > len(found):
                best, found = name, has
            if found == missing:
                break
        if not found:
            break
        families.append(best)
        missing -= found
    return families, missing


@functools.cache
def _letters(path: str) -> frozenset[str]:
    """Characters of a font file."""
    from matplotlib.font_manager import get_font

    try:
        return frozenset(map(chr, get_font(path).get_charmap()))
    except (OSError, RuntimeError):  # a bitmap font, or none that can be read
        return frozenset()
