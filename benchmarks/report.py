"""python -m benchmarks.report: the newest figures on file as markdown tables and charts.

Prints the tables and draws the charts; --write also puts both between the README's markers.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.charts import draw_memory, draw_speedups
from benchmarks.gpu.record import TITLES, cells
from benchmarks.records import RESULTS, newest, read
from benchmarks.runs import accuracy_table, attention_table
from slim_fast.errors import UserError
from slim_fast.training.checkpoint import write_atomically

ROOT = Path(__file__).parents[1]
Result = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """How one benchmark's results are shown: what was measured, and a heading and a cell for each column."""

    title: str
    about: str
    columns: dict[str, Callable[[Result], str]]


def ratio(result: Result) -> str:
    low, median, high = result["speedup"]
    verdict = "" if "target" not in result or median >= result["target"] else f", below {result['target']:g}×"
    return f"**{median:.2f}×** ({low:.2f}–{high:.2f}{verdict})"


def rate(side: str) -> Callable[[Result], str]:
    """Samples a second of the median run."""
    return lambda result: f"{result['case']['batch'] / result['seconds'][side][1]:,.{1 if small(result) else 0}f}"


def small(result: Result) -> bool:
    return bool(result["case"]["batch"] / max(result["seconds"]["baseline"]) < 100)


def milliseconds(side: str) -> Callable[[Result], str]:
    return lambda result: f"{1e3 * result['seconds'][side][1]:,.1f}"


def megabytes(count: float | None) -> str:
    return "–" if count is None else f"{count / 1e6:,.0f}"


def case(name: str) -> Callable[[Result], str]:
    return lambda result: f"{value:,}" if isinstance(value := result["case"][name], int) else str(value)


def error(which: str, *names: str) -> Callable[[Result], str]:
    return lambda result: f"{max(result['errors'][which][name] for name in names):.0e}"


GRADIENTS = ("student", "prototypes")
TABLES = {
    "training_step": Table(
        "Training step",
        "Samples a second of a whole optimisation step, against four padded forwards with materialised logits in eager "
        "PyTorch, in the same precision. Views: made within the step (ours for the batch at once, the baseline sample "
        "by sample in numpy), or the same ones on both sides, prepared beforehand.",
        {
            "sizes": case("sizes"),
            "batch": case("batch"),
            "precision": case("precision"),
            "views": lambda result: "made" if result["case"]["views"] else "prepared",
            "ours": rate("ours"),
            "baseline": rate("baseline"),
            "ours / baseline": ratio,
        },
    ),
    "visible_attention": Table(
        "Attention to visible tokens only",
        "Samples a second of our step with `--model.encoder.attention visible`, against the same with `all`, on the "
        "same views prepared beforehand.",
        {
            "sizes": case("sizes"),
            "batch": case("batch"),
            "precision": case("precision"),
            "visible": rate("ours"),
            "all": rate("baseline"),
            "visible / all": ratio,
        },
    ),
    "views": Table(
        "View pipeline",
        "Samples a second (ten views and their masks each) on one core, against one sample at a time in numpy.",
        {
            "batch": case("batch"),
            "ours": rate("ours"),
            "numpy": rate("baseline"),
            "ours / numpy": ratio,
        },
    ),
    "prototype_loss_time": Table(
        "Prototype loss: time",
        "Milliseconds of the feature-reconstruction loss with its gradients, streamed (ours) and with the N×K logits "
        "in memory.",
        {
            "rows N": case("rows"),
            "prototypes K": case("prototypes"),
            "ours": milliseconds("ours"),
            "materialised": milliseconds("baseline"),
            "ours faster by": ratio,
        },
    ),
    "prototype_loss_memory": Table(
        "Prototype loss: memory",
        "MB by which the peak resident memory of a fresh process rises in its first forward and backward.",
        {
            "rows N": case("rows"),
            "prototypes K": case("prototypes"),
            "one N×K matrix": lambda result: megabytes(result["logits_bytes"]),
            "ours": lambda result: megabytes(result["peak_bytes"]["ours"]),
            "materialised": lambda result: megabytes(result["peak_bytes"].get("baseline")),
        },
    ),
    "prototype_loss_error": Table(
        "Prototype loss: error",
        "Against the materialised loss in float64: relative error of the value, and of the gradients relative to their "
        "largest entry.",
        {
            "prototypes K": case("prototypes"),
            "ours, float64: value": error("ours_float64", "value"),
            "gradients": error("ours_float64", *GRADIENTS),
            "ours, float32": error("ours_float32", "value", *GRADIENTS),
            "materialised, float32": error("baseline_float32", "value", *GRADIENTS),
        },
    ),
}


def gpu_cell(name: str) -> Callable[[Result], str]:
    return lambda result: cells(result)[name]


GPU_CELLS = ("ours", "baseline", "ratio", "target", "met", "note")
GPU_COLUMNS = {"op": case("op"), "what": case("what"), **{name: gpu_cell(name) for name in GPU_CELLS}}
GPU_TABLES = {f"gpu_{name}": Table(f"GPU: {name}", about, GPU_COLUMNS) for name, about in TITLES.items()}


def tables(results: Sequence[Result]) -> str:
    """Markdown: one table for each benchmark that has results."""
    parts = []
    for name, table in {**TABLES, **GPU_TABLES}.items():
        rows = [result for result in results if result["benchmark"] == name]
        if rows:
            threads = sorted({result["threads"] for result in rows if "threads" in result})
            spread = " Medians, with quartiles of the ratios of neighbouring runs." if "speedup" in rows[0] else ""
            used = f" Threads: {', '.join(map(str, threads))}." if threads else ""
            lines = [[cell(result) for cell in table.columns.values()] for result in rows]
            grid = [list(table.columns), ["---:"] * len(table.columns), *lines]
            body = "\n".join(f"| {' | '.join(line)} |" for line in grid)
            parts.append(f"**{table.title}.** {table.about}{spread}{used}\n\n{body}")
    return "\n\n".join(parts)


def about(results: Sequence[Result]) -> str:
    """Where and when the results were measured, in one sentence."""

    def distinct(name: str) -> str:
        return ", ".join(sorted({str(result[name]) for result in results if result[name] is not None})) or "unknown"

    days = sorted({result["date"][:10] for result in results})
    gpu = ""
    if "gpu" in results[0]:
        gpu = f"{distinct('gpu')}, driver {distinct('driver')}, triton {distinct('triton')}; "
    return (
        f"{gpu}{distinct('cpu')}, {distinct('cores')} cores, {distinct('system')}, Python {distinct('python')}, torch "
        f"{distinct('torch')}, numpy {distinct('numpy')}; commit {distinct('commit')}, {' and '.join(days)}."
    )


def report(files: Sequence[Path], figures: Path, beside: Path, quick: bool = False) -> str:
    """Markdown of every machine's newest results; draws its charts into `figures` and links them relative to
    `beside`.
    """
    parts = []
    for path in files:
        results = newest(read(path), quick)
        if not results:
            continue
        drawn = [draw(results, figures / f"{path.stem}-{name}.png") for name, draw in CHARTS.items()]
        links = [
            f"![{picture.stem}]({Path(os.path.relpath(picture, beside)).as_posix()})" for picture in drawn if picture
        ]
        parts.append("\n\n".join([about(results), *links, tables(results)]))
    return "\n\n".join(parts)


CHARTS = {"speedups": draw_speedups, "memory": draw_memory}


def splice(readme: Path, section: str, markdown: str) -> None:
    """Replace what stands between the markers `<!-- section:begin -->` and `<!-- section:end -->`.

    Raises: UserError when the README cannot be read or written, or has no such markers.
    """
    first, last = f"<!-- {section}:begin -->", f"<!-- {section}:end -->"
    try:
        text = readme.read_text(encoding="utf-8")
        begin, end = text.find(first), text.find(last)
        if begin < 0 or end < begin:
            raise UserError(
                f"{readme} needs the lines {first} and {last}, in this order, for the table to stand between."
            )
        text = f"{text[: begin + len(first)]}\n{markdown}\n{text[end:]}"
        write_atomically(readme, lambda file: file.write(text.encode()))
    except OSError as failure:
        raise UserError(f"{readme} cannot be changed: {failure.strerror}.") from failure


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results' files")
    parser.add_argument("--figures", type=Path, default=ROOT / "benchmarks" / "figures", help="folder of the charts")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="file with the markers")
    parser.add_argument("--write", action="store_true", help="put the tables between the README's markers")
    parser.add_argument("--quick", action="store_true", help="show the results of --quick runs instead")
    options = parser.parse_args(arguments)
    try:
        markdown = report(sorted(options.results.glob("*.json")), options.figures, options.readme.parent, options.quick)
        accuracies = accuracy_table(options.results / "runs")
        attention = attention_table(options.results / "attention")
        if not markdown and not accuracies:
            raise UserError(f"{options.results} holds no results: run `pytest benchmarks/ --benchmark-only --record`.")
        for section, content in (("benchmarks", markdown), ("runs", accuracies), ("attention", attention)):
            print(content)
            if options.write:
                splice(options.readme, section, content)
    except UserError as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
