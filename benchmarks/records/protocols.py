"""What `benchmarks.protocols` put on record, as tables: results/protocols/*.json; trials of
settings, results/settings/*.json; and what `slim-fast evaluate` found of the shipped encoders,
results/shipped/*.json, of streams, results/streams/*.json, and parts, results/parts/*.json; and
the table.json of `slim-fast ablate`, results/ablations/*.json.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import markdown_table
from benchmarks.records.accuracies import load_summaries
from slim_fast.ablation.table import format_page
from slim_fast.evaluation.protocols.results import format_cell, summarise_values
from slim_fast.evaluation.protocols.task import SOURCES, WINDOWS

METRICS = {
    "knn": "1-NN",
    "linear": "logistic regression",
    "parts_knn": "1-NN, body parts, whitened",
    "parts_linear": "logistic regression, body parts",
    "windows_knn": "1-NN, windows",
    "windows_linear": "logistic regression, windows",
    "last_knn": "1-NN, windows, last block",
    "last_linear": "logistic regression, windows, last block",
    "seconds": "minutes",
}


def protocol_tables(folder: Path) -> str:
    """Markdown: heading, circumstances, commands and table of each title; "" without runs.

    Records of one title are one encoder, pre-trained with several seeds.
    """
    titles: dict[str, list[dict[str, Any]]] = {}
    for _, record in load_summaries(folder):
        titles.setdefault(record["title"], []).append(record)
    return "\n\n".join(map(describe_runs, titles.values()))


def describe_runs(records: Sequence[dict[str, Any]]) -> str:
    """Markdown of runs that differ in their seeds.

    The learned features' values are those of all runs; controls, which no run changes, those of the
    first by seed.
    """
    records = sorted(records, key=lambda record: record["training"]["seed"])
    record, trainings = records[0], [record["training"] for record in records]
    training, first = trainings[0], record["protocols"]["knn"]
    train, test = first["clips"]
    minutes = [sum(one["seconds"] for one in r["protocols"].values()) / 60 for r in records]
    seeds = ", ".join(str(one["seed"]) for one in trainings)
    commits, dates = (", ".join(sorted({r[key] for r in records})) for key in ("commit", "date"))
    about = (
        f"{train:,} training and {test:,} test clips, {len(first['classes'])} classes. Pre-trained "
        f"on {training['samples']:,} samples (seed{'s' * (len(records) > 1)} {seeds}, threads: "
        f"{training['threads']}, {training['dtype']}, "
        f"{_range([one['seconds'] / 60 for one in trainings])} minutes), evaluated in "
        f"{_range(minutes)} minutes; {record['processor']}, commit {commits}, {dates}."
    )
    rows = [
        [row, *(format_cell(_over_runs(records, protocol, row, source)) for source in SOURCES)]
        for protocol, content in record["protocols"].items()
        for row in content["figures"]
    ]
    commands = "\n".join(command for one in records for command in one["commands"])
    table = markdown_table(["", *SOURCES.values()], rows, left=1)
    return f"### {record['title']}\n\n{about}\n\n```sh\n{commands}\n```\n\n{table}"


def _over_runs(
    records: Sequence[dict[str, Any]], protocol: str, row: str, source: str
) -> dict[str, Any] | None:
    """What `summarise_values` gives of a figure's values; None where there are none."""
    chosen = records if source == "learned" else records[:1]
    figures = [record["protocols"][protocol]["figures"][row].get(source) for record in chosen]
    values = [value for figure in figures if figure for value in figure["values"]]
    return summarise_values(values) if values else None


def _range(values: Sequence[float]) -> str:
    """One number where all are the same, else the least and the greatest."""
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"


def shipped_table(folder: Path) -> str:
    """Markdown: 1-NN of the shipped encoders on recordings they never saw; "" without records.

    The records are what `slim_fast.evaluate knn` writes, named after the recordings.
    """
    shown = ("learned", "random_encoder", "coordinates")
    rows = [
        [record["run"], name, row, *(format_cell(figures[row].get(source)) for source in shown)]
        for name, record in load_summaries(folder)
        for figures in [record["figures"]]
        for row in ("1-NN", f"1-NN, {WINDOWS}")
        if row in figures
    ]
    head = ["encoder", "recordings", "", *(SOURCES[source] for source in shown)]
    return markdown_table(head, rows, left=3) if rows else ""


def streams_table(folder: Path) -> str:
    """Markdown: every stream alone, and all fused; "" without records.

    The records are what `slim_fast.evaluate knn|linear --stream` writes, named after the recordings
    and the protocol.
    """
    shown = ("learned", "random_encoder", "coordinates")
    rows = [
        [name.rpartition("-")[0], row, *(format_cell(figures.get(source)) for source in shown)]
        for name, record in load_summaries(folder)
        for row, figures in record["figures"].items()
    ]
    head = ["recordings", "streams", "learned", "random encoder", "coordinates"]
    return markdown_table(head, rows, left=2) if rows else ""


def settings_tables(folder: Path) -> str:
    """Markdown: what was tried, the command and a table of each trial; "" without trials."""
    parts = []
    for _, trial in load_summaries(folder):
        rows = [[row["settings"], *(_cell(row, name) for name in METRICS)] for row in trial["rows"]]
        table = markdown_table(["settings", *METRICS.values()], rows, left=1)
        about = f"Common to all: `{' '.join(trial['common'])}`; {trial['processor']}, commit "
        command = f"```sh\n{trial['command']}\n```"
        parts.append(f"**{trial['title']}.** {about}{trial['commit']}.\n\n{command}\n\n{table}")
    return "\n\n".join(parts)


def ablation_tables(folder: Path) -> str:
    """Markdown: the pages of ablations; "" without ablations."""
    return "\n\n".join(f"##{format_page(record).rstrip()}" for _, record in load_summaries(folder))


def _cell(row: dict[str, Any], name: str) -> str:
    if name not in row:
        return "–"
    return f"{row[name] / 60:.1f}" if name == "seconds" else f"{row[name]:.1f}"
