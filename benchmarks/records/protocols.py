"""What `benchmarks.protocols` put on record, as tables: results/protocols/*.json; trials of
settings, results/settings/*.json; and what `slim-fast evaluate` found of the shipped encoders,
results/shipped/*.json, of streams, results/streams/*.json, and parts, results/parts/*.json; and
the table.json of `slim-fast ablate`, results/ablations/*.json.
"""

from pathlib import Path
from typing import Any

from benchmarks.markdown import markdown_table
from benchmarks.records.accuracies import load_summaries
from slim_fast.ablation.table import format_page
from slim_fast.evaluation.protocols.results import format_cell
from slim_fast.evaluation.protocols.task import SOURCES

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
    """Markdown: heading, circumstances, commands and table of each run; "" without runs."""
    return "\n\n".join(describe_run(record) for _, record in load_summaries(folder))


def describe_run(record: dict[str, Any]) -> str:
    """Markdown of one run."""
    training, protocols = record["training"], record["protocols"]
    first = next(iter(protocols.values()))
    train, test = first["clips"]
    minutes = sum(protocol["seconds"] for protocol in protocols.values()) / 60
    about = (
        f"{train:,} training and {test:,} test clips, {len(first['classes'])} classes. Pre-trained "
        f"on {training['samples']:,} samples (seed {training['seed']}, threads: "
        f"{training['threads']}, {training['dtype']}, {training['seconds'] / 60:.0f} minutes), "
        f"evaluated in {minutes:.0f} minutes; {record['processor']}, commit {record['commit']}, "
        f"{record['date']}."
    )
    rows = [
        [name, *(format_cell(figures.get(source)) for source in SOURCES)]
        for protocol in protocols.values()
        for name, figures in protocol["figures"].items()
    ]
    commands = "\n".join(record["commands"])
    table = markdown_table(["", *SOURCES.values()], rows, left=1)
    return f"### {record['title']}\n\n{about}\n\n```sh\n{commands}\n```\n\n{table}"


def shipped_table(folder: Path) -> str:
    """Markdown: 1-NN of the shipped encoders on recordings they never saw; "" without records.

    The records are what `slim_fast.evaluate knn` writes, named after the recordings.
    """
    rows = []
    for name, record in load_summaries(folder):
        figures = record["figures"]["1-NN"]
        shown = ("learned", "random_encoder", "coordinates")
        rows.append([record["run"], name, *(format_cell(figures[source]) for source in shown)])
    head = ["encoder", "recordings", "1-NN", "random encoder", "coordinates"]
    return markdown_table(head, rows, left=2) if rows else ""


def streams_table(folder: Path) -> str:
    """Markdown: every stream alone, and all fused; "" without records.

    The records are what `slim_fast.evaluate knn|linear --stream` writes, named after the recordings
    and the protocol.
    """
    shown = ("learned", "random_encoder", "coordinates")
    rows = [
        [name.rpartition("-")[0], row, *(format_cell(figures[source]) for source in shown)]
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
