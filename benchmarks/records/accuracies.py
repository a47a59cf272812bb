"""Summaries of pre-training runs on file as tables of accuracies: results/runs/*.json,
results/attention/<recordings>-<all or visible>-<seed>.json; and results/transfer/*.json and
results/precisions/*.json, which benchmarks.transfer and benchmarks.precisions write.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.markdown import markdown_table

METRICS = {"knn_top1": "1-NN", "linear_top1": "linear"}
SOURCES = {"": "learned", "_random_encoder": "random encoder", "_coordinates": "coordinates"}
TRANSFER = {
    "random_encoder": "random encoder",
    "shuffled": "joints shuffled",
    "transferred": "transferred",
    "pretrained": "pre-trained on it",
}


def load_summaries(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of every *.json in the folder."""
    for path in sorted(folder.glob("*.json")):
        yield path.stem, json.loads(path.read_text(encoding="utf-8"))


def group_headings(names: Sequence[str], separator: str = " ") -> list[str]:
    """A heading for each metric and name; the metric stands before the first name only."""
    return [
        f"{metric}{separator}{name}" if name == names[0] else name
        for metric, name in product(METRICS.values(), names)
    ]


def accuracy_table(folder: Path) -> str:
    """Markdown: accuracies in per cent beside their baselines, one row a run; "" without runs."""
    rows = []
    for name, summary in load_summaries(folder):
        cells = [f"{100 * summary[m + source]:.1f}" for m, source in product(METRICS, SOURCES)]
        cells[0], cells[3] = f"**{cells[0]}**", f"**{cells[3]}**"
        counts = [f"{summary[key]:,}" for key in ("clips", "samples")]
        minutes = f"{summary['seconds'] / 60:.0f}"
        rows.append([name, *counts, minutes, str(summary["threads"]), *cells])
    head = ["run", "clips", "samples", "minutes", "threads", *group_headings([*SOURCES.values()])]
    return markdown_table(head, rows, left=1) if rows else ""


def attention_table(folder: Path) -> str:
    """Markdown: means over seeds, and ranges, of each kind of attention; "" without runs."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, summary in load_summaries(folder):
        recordings, kind, _ = name.rsplit("-", 2)
        groups.setdefault((recordings, kind), []).append(summary)
    sources = [*SOURCES][:2]
    rows = [
        [*key, str(len(runs)), *(mean_and_range(runs, m + s) for m, s in product(METRICS, sources))]
        for key, runs in groups.items()
    ]
    head = ["recordings", "attention", "seeds", *group_headings([SOURCES[s] for s in sources])]
    return markdown_table(head, rows, left=2) if rows else ""


def precision_table(folder: Path) -> str:
    """Markdown: commands, and a row an encoder, recordings and precision; "" without records."""
    records = [record for _, record in load_summaries(folder)]
    if not records:
        return ""
    rows = []
    for record in records:
        for name, found in record["figures"].items():
            cells = [f"{100 * found[metric]:.1f}" for metric in METRICS]
            changes = [f"{found[name]:.1g}" for name in ("error", "alone")]
            about = [record["encoder"], str(record["width"]), record["recordings"]]
            rows.append([*about, name, *cells, *changes])
    head = ["encoder", "width", "recordings", "precision", *METRICS.values(), "error", "alone"]
    commands = "\n".join(record["command"] for record in records)
    return f"```sh\n{commands}\n```\n\n{markdown_table(head, rows, left=4)}"


def transfer_table(folder: Path) -> str:
    """Markdown: means over seeds, and ranges, of each encoder and target; "" without records."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _, record in load_summaries(folder):
        for centre, key in (("its own", "accuracies"), ("the source's", "centred")):
            groups.setdefault((record["target"], centre), []).append(record[key])
    rows = []
    for key, runs in groups.items():
        cells = [
            mean_and_range([run[encoder] for run in runs], metric) if encoder in runs[0] else "–"
            for metric, encoder in product(METRICS, TRANSFER)
        ]
        rows.append([*key, str(len(runs)), *cells])
    head = ["target", "centre", "seeds", *group_headings([*TRANSFER.values()], ": ")]
    return markdown_table(head, rows, left=2) if rows else ""


def mean_and_range(runs: Sequence[Mapping[str, float]], metric: str) -> str:
    """In per cent; the mean alone for one run."""
    accuracies = [100 * run[metric] for run in runs]
    mean = f"{sum(accuracies) / len(accuracies):.1f}"
    spread = f" ({min(accuracies):.1f}–{max(accuracies):.1f})"
    return mean if len(accuracies) == 1 else mean + spread
