"""python -m benchmarks.report: the newest figures on file as markdown tables and charts.

Prints the tables and draws the charts; --write also puts both between the README's markers.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import flops
from benchmarks.charts import CHARTS
from benchmarks.records import RESULTS, newest, read
from benchmarks.runs import accuracy_table, attention_table, transfer_table
from benchmarks.tables import TABLES, tables
from slim_fast.errors import UserError
from slim_fast.training.checkpoint import write_atomically

ROOT = Path(__file__).parents[1]
Result = dict[str, Any]


def about(results: Sequence[Result]) -> str:
    """Where and when the results were measured, in one sentence; what no run noted is left out."""

    def distinct(name: str, text: str = "{}") -> list[str]:
        known = sorted({str(result[name]) for result in results if result.get(name) is not None})
        return [text.format(", ".join(known))] if known else []

    gpu, triton = [*distinct("gpu"), *distinct("driver", "driver {}")], distinct("triton", "triton {}")
    memory = sorted({f"{r['memory_bytes'] / 2**30:.0f} GiB" for r in results if r.get("memory_bytes")})
    native = {r["native_bf16"] for r in results if r.get("native_bf16") is not None}
    machine = [
        *distinct("cpu"), *distinct("cpu_capability"), *(["bf16 native"] if native == {True} else []),
        *distinct("cores", "{} cores"), *memory, *distinct("system"), *distinct("python", "Python {}"),
        *distinct("torch", "torch {}"), *([] if gpu else triton), *distinct("numpy", "numpy {}"),
    ]  # fmt: skip
    days = sorted({result["date"][:10] for result in results})
    commits = distinct("commit", "commit {}") or ["commit unknown"]
    return (
        "; ".join(", ".join(part) for part in (gpu and gpu + triton, machine, [*commits, " and ".join(days)]) if part)
        + "."
    )


def report(files: Sequence[Path], figures: Path, beside: Path, quick: bool = False) -> str:
    """Markdown of the newest results of every machine and device; draws their charts into `figures` and links them
    relative to `beside`.
    """
    parts = []
    for path in files:
        results = newest(read(path), quick)
        for device, stem in (("cpu", path.stem), ("cuda", f"{path.stem}-cuda")):
            chosen = [result for result in results if result.get("device", "cpu") == device]
            if chosen:
                parts += [about(chosen), tables(chosen, _draw(chosen, figures / stem, beside), fold=True)]
    return "\n\n".join(parts)


def _draw(results: Sequence[Result], stem: Path, beside: Path) -> dict[str, str]:
    """Links to the charts that the results suffice for, by the benchmark above whose table they stand."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print("Left out: the pictures, because matplotlib is not installed.", file=sys.stderr)
        return {}
    links: dict[str, list[str]] = {}
    measured = {result["benchmark"] for result in results}
    for name, chart in CHARTS.items():
        picture = chart.draw(results, stem.with_name(f"{stem.name}-{name}.png"))
        if picture:
            first = next(benchmark for benchmark in TABLES if benchmark in measured.intersection(chart.benchmarks))
            link = Path(os.path.relpath(picture, beside)).as_posix()
            links.setdefault(first, []).append(f"![{picture.stem}]({link})")
    return {benchmark: "\n\n".join(found) for benchmark, found in links.items()}


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
        sections = {"benchmarks": markdown, "runs": accuracies, "attention": attention, "flops": flops.summary()}
        sections["transfer"] = transfer_table(options.results / "transfer")
        for section, content in sections.items():
            print(content)
            if options.write:
                splice(options.readme, section, content)
    except UserError as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
