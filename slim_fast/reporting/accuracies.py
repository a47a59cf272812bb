"""The accuracy table: what was evaluated, its controls, and what the paper reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slim_fast.data.audit import PUBLISHED as COUNTS
from slim_fast.evaluation.protocols.results import format_cell
from slim_fast.evaluation.protocols.task import SOURCES
from slim_fast.reporting.published import OTHERS, PUBLISHED

Record = Mapping[str, Any]
OF_THE_PAPER = "published"
AT_THE_END = "at the end of the run"
_HEADINGS = {
    "knn": "k nearest neighbours",
    "linear": "linear classifiers",
    "semi": "few labels",
    "finetune": "fine-tuned",
}
_SUMMARY_KEYS = {"knn_top1": "1-NN", "linear_top1": "logistic regression"}


@dataclass
class AccuracyTable:
    """Cells in per cent, as text.

    Attributes:
        columns: sources that some row has, and "published" where a row has such a figure.
        groups: name of a protocol -> (name of a row, one cell a column) of each of its rows.
        notes: sentences about where the figures are from.
    """

    columns: list[str] = field(default_factory=list)
    groups: dict[str, list[tuple[str, list[str]]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def make_accuracy_table(
    records: Mapping[str, Record], summary: Record, split: str | None, test_clips: int
) -> AccuracyTable:
    """The table of the figures in protocols' records, and in a run's summary.json."""
    everything = {_head(name, record): record["figures"] for name, record in records.items()}
    if at_the_end := _of_summary(summary):
        everything[AT_THE_END] = at_the_end
    rows = [row for group in everything.values() for row in group.items()]
    published = [name for name, _ in rows if split in PUBLISHED.get(name, {})]
    sources = [s for s in SOURCES if any(s in by_source for _, by_source in rows)]
    table = AccuracyTable([SOURCES[s] for s in sources] + [OF_THE_PAPER] * bool(published))
    for protocol, group in everything.items():
        table.groups[protocol] = [
            (name, _cells(name, by_source, sources, split, bool(published)))
            for name, by_source in group.items()
        ]
    if published and split is not None:
        table.notes.append(_describe_paper(split, test_clips))
    if any(len(by.get("values", ())) > 1 for _, row in rows for by in row.values()):
        table.notes.append("Means over seeds ± their standard deviation.")
    return table


def _head(protocol: str, record: Record) -> str:
    as_published = record.get("settings", {}).get("published") and protocol in ("linear", "semi")
    return _HEADINGS.get(protocol, protocol) + " (--protocol paper)" * bool(as_published)


def _describe_paper(split: str, test_clips: int) -> str:
    tested = next(counts.splits[split][1] for counts in COUNTS if split in counts.splits)
    others = ", ".join(f"{name} {by[split]:.1f}" for name, by in OTHERS.items() if split in by)
    return (
        "The column “published” is of SLiM as published (arXiv 2603.10648): linear evaluation from "
        "the paper's tables, 1-NN of the weights that its authors released; the full recipe on the "
        f"whole data set, tested on {tested:,} clips (here {test_clips:,})."
        + (f" Linear accuracies of others in the paper: {others}." if others else "")
    )


def select_results(
    records: Sequence[Record], encoder: str, cache: str, split: str | None, people: int
) -> tuple[dict[str, Record], int]:
    """Protocol -> the newest record on these weights and clips, by their hashes, split and people;
    and how many others there are.
    """
    wanted = {"encoder": encoder, "cache": cache, "split": split}
    fitting = [
        record
        for record in records
        if all(record.get(key) == value for key, value in wanted.items())
        and record.get("settings", {}).get("people") == people
        and {"protocol", "figures"} <= record.keys()
    ]
    return {str(r["protocol"]): r for r in fitting}, len(records) - len(fitting)


def _of_summary(summary: Record) -> dict[str, dict[str, dict[str, Any]]]:
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for key, name in _SUMMARY_KEYS.items():
        for source, suffix in (
            ("learned", ""),
            ("random_encoder", "_random_encoder"),
            ("coordinates", "_coordinates"),
        ):
            value = summary.get(key + suffix)
            if isinstance(value, int | float):
                rows.setdefault(name, {})[source] = {"mean": value, "std": 0.0, "values": [value]}
    return rows


def _cells(
    name: str,
    by_source: Mapping[str, Mapping[str, Any]],
    sources: Sequence[str],
    split: str | None,
    paper: bool,
) -> list[str]:
    cells = [format_cell(by_source.get(source)) for source in sources]
    if paper:
        value = PUBLISHED.get(name, {}).get(split or "")
        cells.append("–" if value is None else f"{value:.1f}")
    return cells
