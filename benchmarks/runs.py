"""Summaries of pre-training runs on file as the README's tables of accuracies: benchmarks/results/runs/*.json, and
results/attention/<recordings>-<all or visible>-<seed>.json, and results/transfer/*.json of benchmarks.transfer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SOURCES = ("", "_random_encoder", "_coordinates")
TRANSFER = {
    "random_encoder": "random encoder",
    "shuffled": "joints shuffled",
    "transferred": "transferred",
    "pretrained": "pre-trained on it",
}


def accuracy_table(folder: Path) -> str:
    """Markdown: one row a run, accuracies in per cent beside their baselines; "" when the folder holds no summary."""
    rows = [_row(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]
    if not rows:
        return ""
    head = (
        "| run | clips | samples | minutes | threads | 1-NN learned | random encoder | coordinates "
        "| linear learned | random encoder | coordinates |"
    )
    return "\n".join([head, "|---" + "|---:" * 10 + "|", *rows])


def _row(name: str, summary: dict[str, Any]) -> str:
    shares = [summary[key + source] for key in ("knn_top1", "linear_top1") for source in SOURCES]
    cells = [f"{100 * share:.1f}" for share in shares]
    cells[0], cells[3] = f"**{cells[0]}**", f"**{cells[3]}**"
    about = [name, f"{summary['clips']:,}", f"{summary['samples']:,}", f"{summary['seconds'] / 60:.0f}"]
    return f"| {' | '.join([*about, str(summary['threads']), *cells])} |"


def attention_table(folder: Path) -> str:
    """Markdown: means over seeds, and their range, of each kind of attention; "" when the folder holds no summary."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        recordings, kind, _ = path.stem.rsplit("-", 2)
        groups.setdefault((recordings, kind), []).append(json.loads(path.read_text(encoding="utf-8")))
    if not groups:
        return ""
    head = "| recordings | attention | seeds | 1-NN learned | random encoder | linear learned | random encoder |"
    rows = [
        f"| {recordings} | {kind} | {len(runs)} | "
        + " | ".join(_range(runs, key + source) for key in ("knn_top1", "linear_top1") for source in SOURCES[:2])
        + " |"
        for (recordings, kind), runs in groups.items()
    ]
    return "\n".join([head, "|---|---" + "|---:" * 5 + "|", *rows])


def transfer_table(folder: Path) -> str:
    """Markdown: means over seeds, and their range, of each encoder on each target; "" when there is no record."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        for centre, key in (("its own", "accuracies"), ("the source's", "centred")):
            groups.setdefault((record["target"], centre), []).append(record[key])
    if not groups:
        return ""
    rows = []
    for (target, centre), runs in groups.items():
        cells = [
            _range([run[encoder] for run in runs], key) if encoder in runs[0] else "–"
            for key in ("knn_top1", "linear_top1")
            for encoder in TRANSFER
        ]
        rows.append(f"| {target} | {centre} | {len(runs)} | {' | '.join(cells)} |")
    names = " | ".join(TRANSFER.values())
    return "\n".join(
        [f"| target | centre | seeds | 1-NN: {names} | linear: {names} |", "|---|---" + "|---:" * 9 + "|", *rows]
    )


def _range(runs: list[dict[str, Any]], name: str) -> str:
    shares = [100 * run[name] for run in runs]
    mean = f"{sum(shares) / len(shares):.1f}"
    return mean if len(shares) == 1 else f"{mean} ({min(shares):.1f}–{max(shares):.1f})"
