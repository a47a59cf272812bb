"""Pages get their generated sections, and those on file are what the records give."""

import json
import re

import pytest

from benchmarks.markdown import find_pages, replace_section, write_section
from benchmarks.records import pages
from benchmarks.records.headline import ROWS, headline_table
from benchmarks.records.recorder import RESULTS
from slim_fast.errors import UserError


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return tmp_path_factory.mktemp("charts")


@pytest.fixture(scope="module")
def sections(drawn):
    """What the records on file give."""
    return pages.make_sections(RESULTS, drawn)


@pytest.mark.parametrize("page", find_pages(pages.PAGES), ids=lambda page: page.name)
def test_pages_on_file_are_what_the_records_give(sections, page):
    text = page.read_text(encoding="utf-8")
    for name, markdown in sections.items():
        wanted = replace_section(text, name, pages.link_figures(markdown, pages.FIGURES, page))
        assert wanted in (None, text), f"python -m benchmarks.records --write: {name} is old"


def test_every_section_is_in_a_page_and_every_chart_on_file(sections, drawn):
    texts = [page.read_text(encoding="utf-8") for page in find_pages(pages.PAGES)]
    for name in sections:
        assert any(f"<!-- {name}:begin -->" in text for text in texts), name
    assert {path.name for path in drawn.iterdir()} == {p.name for p in pages.FIGURES.glob("*.png")}


def test_links_lead_from_a_page_to_its_charts(sections, tmp_path):
    page, figures = tmp_path / "guide" / "speed.md", tmp_path / "charts"
    linked = pages.link_figures(sections["benchmarks"], figures, page)
    names = re.findall(r"\]\((.*?)\)", linked)
    assert names
    assert all(name.startswith("../charts/") for name in names)


def test_the_headlines_rows_have_their_basis():
    _, _, *rows = headline_table(sorted(RESULTS.glob("*.json"))).splitlines()
    titles = [row.split("|")[1].strip() for row in rows]
    assert len(titles) >= 3
    assert titles == [row.title for row in ROWS if row.title in titles]
    for row in rows:
        assert re.search(r"\*\*[\d.]+×", row)
        assert re.search(
            r"threads of .*, torch [\d.+a-z]*; `\S+\.json`, commit \w+, [\d-]{10} \|$", row
        )
    assert "masked autoencoder" in rows[0]
    assert "eager PyTorch" in rows[-2]
    assert " MB |" in rows[-1]


def test_the_headline_shows_the_newest_result_of_any_file(tmp_path):
    for name, day, peak in (("a", "2026-01-02", 100e6), ("b", "2026-01-01", 10e6)):
        result = {
            "benchmark": "prototype_loss_memory",
            "case": {"rows": 1000, "prototypes": 65536},
            "peak_bytes": {"ours": peak, "baseline": 4 * peak},
            "threads": 2,
        }
        run = {"date": day, "commit": "abc", "quick": False, "cpu": "Chip", "cores": 4}
        run |= {"torch": "2", "results": [result]}
        (tmp_path / f"{name}.json").write_text(json.dumps([run]))
    (row,) = headline_table(sorted(tmp_path.glob("*.json"))).splitlines()[2:]
    assert "| **4.0× less**: 100 against 400 MB |" in row
    assert "2 threads of Chip, 4 cores, torch 2; `a.json`, commit abc, 2026-01-02" in row
    assert headline_table([]) == ""


def test_a_section_is_written_into_every_page_that_has_its_markers(tmp_path):
    (tmp_path / "deep").mkdir()
    for name, text in (("a.md", "<!-- x:begin -->old<!-- x:end -->."), ("deep/b.md", "none")):
        (tmp_path / name).write_text(text)
    found = find_pages([tmp_path])
    assert [page.name for page in found] == ["a.md", "b.md"]
    assert write_section(found, "x", lambda page: page.name)
    assert found[0].read_text() == "<!-- x:begin -->\na.md\n<!-- x:end -->."
    assert found[1].read_text() == "none"
    assert not write_section(found, "y", lambda page: page.name)
    found[1].write_text("<!-- x:end --><!-- x:begin -->")
    with pytest.raises(UserError, match=r"b\.md: the table needs the lines"):
        write_section(found, "x", lambda page: page.name)
