"""Summaries of pre-training runs on file (benchmarks/results/runs/*.json) as the README's accuracy table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SOURCES = ("", "_random_encoder", "_coordinates")


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
