"""python -m benchmarks.records: the newest results on file as markdown tables and charts.

Prints the tables and draws the charts. --write also puts each table between its markers,
`<!-- name:begin -->` and `<!-- name:end -->`, in every page that has them: README.md, RESULTS.md,
docs/ and the cards of shipped encoders.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.flops import report as flops
from benchmarks.markdown import find_pages, write_section
from benchmarks.records.accuracies import (
    accuracy_table,
    attention_table,
    precision_table,
    transfer_table,
)
from benchmarks.records.charts import CHARTS
from benchmarks.records.headline import headline_table
from benchmarks.records.machine import describe_machine
from benchmarks.records.predictions import load_predictions, prediction_tables
from benchmarks.records.protocols import (
    ablation_tables,
    protocol_tables,
    settings_tables,
    shipped_table,
    streams_table,
)
from benchmarks.records.recorder import RESULTS, Result, newest, read
from benchmarks.records.render import render_tables
from benchmarks.records.scaling import load_scaling, scaling_tables
from benchmarks.records.tables import TABLES
from slim_fast.errors import UserError

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "RESULTS.md",
    ROOT / "docs",
    ROOT / "slim_fast" / "weights",
)
FIGURES = ROOT / "docs" / "benchmarks" / "figures"
LINK = "FIGURES/"
"""Before a chart's name in a section's text, until the page that it stands in is known."""


def report_machines(files: Sequence[Path], figures: Path, quick: bool = False) -> str:
    """Markdown of the newest results of every machine and device; draws charts into `figures`."""
    parts = []
    for path in files:
        results = newest(read(path), quick)
        for device, stem in (("cpu", path.stem), ("cuda", f"{path.stem}-cuda")):
            chosen = [result for result in results if result.get("device", "cpu") == device]
            if chosen:
                links = draw_charts(chosen, figures / stem)
                parts += [describe_machine(chosen), render_tables(chosen, links, fold=True)]
    return "\n\n".join(parts)


def draw_charts(results: Sequence[Result], stem: Path) -> dict[str, str]:
    """Links to the charts that the results suffice for, by the benchmark they stand above."""
    links: dict[str, list[str]] = {}
    measured = {result["benchmark"] for result in results}
    for name, chart in CHARTS.items():
        picture = chart.draw(results, stem.with_name(f"{stem.name}-{name}.png"))
        if picture:
            first = next(b for b in TABLES if b in measured.intersection(chart.benchmarks))
            alt = f"Chart of {name.replace('-', ' ')}, {stem.name}"
            links.setdefault(first, []).append(f"![{alt}]({LINK}{picture.name})")
    return {benchmark: "\n\n".join(found) for benchmark, found in links.items()}


def make_sections(results: Path, figures: Path, quick: bool = False) -> dict[str, str]:
    """Each section's markdown by the name of its markers; draws the charts into `figures`.

    Raises: UserError when the folder `results` holds none, or a damaged file.
    """
    files = sorted(results.glob("*.json"))
    machines, accuracies = report_machines(files, figures, quick), accuracy_table(results / "runs")
    if not machines and not accuracies:
        raise UserError(
            f"{results} holds no results: run `pytest benchmarks/ --benchmark-only --record`."
        )
    return {
        "benchmarks": machines,
        "runs": accuracies,
        "attention": attention_table(results / "attention"),
        "flops": flops.summary(),
        "protocols": protocol_tables(results / "protocols"),
        "ablations": ablation_tables(results / "ablations"),
        "settings": settings_tables(results / "settings"),
        "shipped": shipped_table(results / "shipped"),
        "streams": streams_table(results / "streams"),
        "parts": shipped_table(results / "parts"),
        "transfer": transfer_table(results / "transfer"),
        "precisions": precision_table(results / "precisions"),
        "headline": headline_table(files, quick),
        "predicted": prediction_tables(load_predictions(results.parent / "predictions")),
        "scaling": scaling_tables(load_scaling(results.parent / "predictions")),
    }


def link_figures(markdown: str, figures: Path, page: Path) -> str:
    """The section with its charts' links relative to the page."""
    folder = Path(os.path.relpath(figures.resolve(), page.resolve().parent)).as_posix()
    return markdown.replace(LINK, f"{folder}/")


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records", description=__doc__)
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder of the results' files"
    )
    parser.add_argument("--figures", type=Path, default=FIGURES, help="folder of the charts")
    parser.add_argument(
        "--pages", type=Path, nargs="+", default=PAGES, help="files and folders with the markers"
    )
    parser.add_argument(
        "--write", action="store_true", help="put the tables between the pages' markers"
    )
    parser.add_argument(
        "--quick", action="store_true", help="show the results of --quick runs instead"
    )
    options = parser.parse_args(arguments)
    try:
        pages = find_pages(options.pages)
        for name, markdown in make_sections(
            options.results, options.figures, options.quick
        ).items():

            def for_page(page: Path, markdown: str = markdown) -> str:
                return link_figures(markdown, options.figures, page)

            print(for_page(pages[0] if pages else ROOT / "README.md"))
            if options.write and not write_section(pages, name, for_page):
                print(f"Left out: {name}, whose markers are in no page.", file=sys.stderr)
    except UserError as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 2
    return 0
