"""Words of pictures: fonts, widths, line breaks."""

import re

import numpy as np
import pytest

from slim_fast import drawing
from slim_fast.drawing import lettering
from slim_fast.drawing.film import draw_film
from slim_fast.drawing.lettering import Letters
from tests.drawing.conftest import NTU, clip

pytest.importorskip("matplotlib")


@pytest.mark.parametrize("room", [0.05, 0.4, 1.8])
def test_wrapping_loses_nothing_but_spaces(room):
    words = "S001C001_P001 a long_name/with many parts and_a_verylongunbrokenpiece WWWWWWWWWWW"
    letters = Letters([words])
    lines = letters.wrap(words, 9, room, 1000)
    assert all(letters.width(line, 9) <= room or len(line) == 1 for line in lines)
    assert "".join("".join(lines).split()) == "".join(words.split())
    assert letters.wrap("hand_wave_x", 9, letters.width("hand_wave_", 9), 5) == ["hand_wave_", "x"]
    short = letters.wrap(words, 9, 1.0, 2)
    assert len(short) == 2
    assert "…" in short[1]


def test_a_shortened_name_keeps_both_ends_and_fits():
    letters = Letters([])
    for room in (0.3, 0.8, 1.5):
        name = letters.elide("recordings/2024/take_00017.avi", 9, room)
        head, tail = name.split("…")
        assert "recordings/2024/take_00017.avi".startswith(head)
        assert "recordings/2024/take_00017.avi".endswith(tail)
        assert letters.width(name, 9) <= room
    assert letters.elide("wave", 9, 1) == "wave"


@pytest.fixture
def strange_font(tmp_path, monkeypatch):
    """An installed font that has U+E123, U+E124 and nothing else."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from matplotlib.font_manager import fontManager

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    pen.lineTo((0, 900))
    pen.lineTo((900, 0))
    pen.closePath()
    glyphs = {name: pen.glyph() for name in (".notdef", "a", "b")}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap({0xE123: "a", 0xE124: "b"})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Strange", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900)
    builder.setupPost()
    builder.save(tmp_path / "strange.ttf")
    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))
    fontManager.addfont(tmp_path / "strange.ttf")
    lettering._families.cache_clear()
    yield "Strange"
    lettering._families.cache_clear()


STRANGE = "\ue123\ue124"


def test_names_are_written_in_whichever_font_has_them(strange_font, tmp_path, recwarn):
    letters = Letters([f"a {STRANGE}"])
    assert letters.family == ["DejaVu Sans", strange_font]
    # two letters, each as wide as its size
    assert letters.width(STRANGE, 36) == pytest.approx(1, rel=0.02)
    draw_named(STRANGE, tmp_path)
    assert not recwarn.list


def test_what_no_font_has_is_said_once_a_picture_and_boxes_stand_for_it(tmp_path, recwarn, figures):
    draw_named(STRANGE, tmp_path)
    said = [str(warning.message) for warning in recwarn.list]
    assert len(said) == 3
    assert all(
        re.match("No installed font has the characters \ue123 \ue124: boxes", line) for line in said
    )
    assert figures[0].axes[0].texts[0].get_text() == "□□"
    assert figures[1].axes[0].get_legend().get_texts()[0].get_text() == "class 0: □□"


def draw_named(name, folder):
    drawing.contact_sheet([clip()] * 2, NTU, [name, f"{name}\n{name}"], folder / "a.png")
    drawing.draw_embedding(np.eye(4), [0, 0, 1, 1], [name, "b"], folder / "b.png", method="pca")
    draw_film(
        clip(frames=2), np.full((2, 2), 0.5), [name, "b"], NTU, folder / "c.gif", caption=name
    )
