"""The record of `python -m benchmarks.scaling` as tables."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.markdown import markdown_table

NAMES = {"ddp": "DDP", "fsdp": "FSDP2"}


def load_scaling(folder: Path) -> dict[str, Any] | None:
    """The record in a folder of predictions, if there is one."""
    paths = sorted(folder.glob("scaling-*.json"))
    return json.loads(paths[-1].read_text(encoding="utf-8")) if paths else None


def scaling_tables(found: Mapping[str, Any] | None) -> str:
    """Markdown: steps on many GPUs, what they wait for, and the counted bytes; "" without."""
    return "\n\n".join(_tables(found)) if found else ""


def _tables(found: Mapping[str, Any]) -> Iterator[str]:
    one = found["one"]
    rate = 1e3 * one["samples"] / one["step"]
    yield (
        f"**{found['device']}s, {rate:,.0f} samples/s on one.** Predicted, not measured. Times in "
        "milliseconds a step; MB and GB are those of each GPU."
    )
    head = ["GPUs", "samples a step", "weights", "TFLOP", "sent, MB", "weights and moments, GB"]
    head += ["computing", "KoLeo", "waits for sending", "host", "samples/s", "in a graph", "limit"]
    yield markdown_table(head, (_row(step) for step in found["steps"]), left=0)
    purposes = sorted({name for step in found["steps"] for name in step["sending"]})
    rows = [
        [
            f"{step['gpus']}",
            f"{step['batch']:,}",
            NAMES[step["sharding"]],
            *(_ms(step["sending"][name]) if name in step["sending"] else "–" for name in purposes),
        ]
        for step in found["steps"]
    ]
    yield "What is sent, beside the computation or not, in milliseconds a step:"
    yield markdown_table(["GPUs", "samples a step", "weights", *purposes], rows)
    yield "Bytes of a step of the smallest model, by the model above and counted on this machine:"
    rows = [
        [
            f"{row['processes']}",
            NAMES[row["sharding"]],
            f"{sum(row['model'].values()):,}",
            f"{sum(row['counted'].values()):,}",
            "equal" if row["model"] == row["counted"] else "**differ**",
        ]
        for row in found["counted"]
    ]
    yield markdown_table(["processes", "weights", "model", "counted", "each kind"], rows)


def _row(step: Mapping[str, Any]) -> list[str]:
    head = [f"{step['gpus']}", f"{step['batch']:,}", NAMES[step["sharding"]]]
    head += [f"{step['operations'] / 1e12:.3g}", f"{step['sent'] / 1e6:,.0f}"]
    head += [f"{step['held'] / 1e9:.2g}", _ms(step["computing"]), _ms(step["koleo"])]
    head += [_ms(step["waits"]), _ms(step["host"])]
    limit, in_graph = step["limit"], step["graph_limit"]
    said = limit if limit == in_graph else f"{limit}; in a graph {in_graph}"
    rates = [1e3 * step["batch"] / step[time] for time in ("step", "gpu")]
    return [*head, *(f"{value:,.0f}" for value in rates), said]


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
