"""Results that sum up the project, each with its basis: inference, training step, memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.markdown import markdown_table
from benchmarks.records.cells import format_number
from benchmarks.records.recorder import Result, newest, read


@dataclass(frozen=True)
class Row:
    """One line of the table: the case whose newest result it shows, and how."""

    title: str
    benchmark: str
    case: Mapping[str, Any]
    measure: Callable[[Result], str]
    basis: str
    """A format string of the result's fields."""


def compare_rates(unit: str, count: str) -> Callable[[Result], str]:
    """Speed-up with its quartiles, and both sides' rates; count: the case's number of samples."""

    def cell(result: Result) -> str:
        low, median, high = result["speedup"]
        ours, baseline = (
            format_number(result["case"][count] / result["seconds"][side][1])
            for side in ("ours", "baseline")
        )
        return f"**{median:.2f}×** ({low:.2f}–{high:.2f}): {ours} against {baseline} {unit}"

    return cell


def compare_memory(result: Result) -> str:
    ours, baseline = (result["peak_bytes"][side] / 1e6 for side in ("ours", "baseline"))
    return f"**{baseline / ours:.1f}× less**: {ours:,.0f} against {baseline:,.0f} MB"


ROWS = (
    Row(
        "Inference, against a masked autoencoder",
        "inference",
        {"baseline": "MAE, treated alike", "clips": 1, "people": 2},
        compare_rates("clips/s", "clips"),
        "one clip of two people at a time; {fastest[ours]} against {fastest[baseline]}, the faster "
        "of SDPA plain and compiled",
    ),
    Row(
        "Inference, each in its fastest runtime",
        "like_for_like",
        {
            "baseline": "MAE, its fastest runtime",
            "clips": 1,
            "people": 2,
            "tokens": "all",
            "threads": 2,
        },
        compare_rates("clips/s", "clips"),
        "one clip of two people at a time, all tokens; ours in {by[ours]} against the masked "
        "autoencoder in {by[baseline]}",
    ),
    Row(
        "Training step, against eager PyTorch",
        "training_step",
        {"sizes": "recipe", "precision": "bf16", "views": False},
        compare_rates("samples/s", "batch"),
        "the recipe's sizes, batch {case[batch]}, {case[precision]}, the same views on both sides",
    ),
    Row(
        "Peak memory of the prototype loss, against logits in memory",
        "prototype_loss_memory",
        {"rows": 1000, "prototypes": 65_536},
        compare_memory,
        "forward and backward of {case[rows]:,} rows, {case[prototypes]:,} prototypes, fp32",
    ),
)


def headline_table(files: Sequence[Path], quick: bool = False) -> str:
    """Markdown: one row for each of ROWS that is on file, by its newest result in any file."""
    results = [
        {**result, "file": path.name} for path in files for result in newest(read(path), quick)
    ]
    lines = []
    for row in ROWS:
        found = [r for r in results if r["benchmark"] == row.benchmark]
        found = [r for r in found if row.case.items() <= r["case"].items()]
        if found:
            result = max(found, key=lambda r: r["date"])
            lines.append([row.title, row.measure(result), describe_basis(row, result)])
    return markdown_table(["what", "measured", "basis"], lines, left=3) if lines else ""


def describe_basis(row: Row, result: Result) -> str:
    """Sizes, threads and machine of a result, and the record that it stands in."""
    rounds = f"{result['rounds']} rounds, " if "rounds" in result else ""
    return (
        f"{row.basis.format(**result)}; {rounds}{result['threads']} threads of {result['cpu']}, "
        f"{result['cores']} cores, torch {result['torch']}; `{result['file']}`, commit "
        f"{result['commit']}, {result['date'][:10]}"
    )
