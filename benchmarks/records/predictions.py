"""Predictions on file, of `python -m benchmarks.predicted`, as tables; no figure is measured."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import markdown_table

LEAST = 0.3  # milliseconds of a kind of operations that gets a row


def load_predictions(folder: Path) -> list[dict[str, Any]]:
    """The files whole-step*.json of a folder."""
    return [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("whole-step*.json"))
    ]


def prediction_tables(found: Sequence[dict[str, Any]]) -> str:
    """Markdown: of each device its steps, inference, single operations and the kinds of operations
    that steps are made of; "" without predictions.
    """
    return "\n\n".join(part for one in found for part in _tables(one))


def _tables(one: dict[str, Any]) -> Iterator[str]:
    eager = one["steps"][-1]
    yield f"**{one['device']}, a step of {one['batch']} samples.** Predicted, not measured."
    rows = [
        [
            side["side"],
            *_milliseconds(side["launched"], side["gpu"]),
            f"{1e3 * side['samples'] / side['launched']:,.0f}",
            f"{1e3 * side['samples'] / side['gpu']:,.0f}",
            f"{eager['launched'] / side['launched']:.1f}×",
        ]
        for side in one["steps"]
    ]
    head = ["step", "ms", "the GPU alone, ms", "samples/s", "the GPU alone", "against eager"]
    yield markdown_table(head, rows, left=1)
    rows = [
        [
            side["side"],
            *_milliseconds(side["launched"], side["gpu"]),
            f"{1e3 * side['clips'] / side['gpu']:,.0f}",
            f"{side['ceiling']:.0%}",
        ]
        for side in one["inference"]
    ]
    head = ["inference", "ms", "as a graph, ms", "clips/s", "of the ceiling"]
    yield markdown_table(head, rows, left=1)
    rows = [
        [
            op["op"],
            op["other"],
            *_milliseconds(op["ours"] / 1e3, op["theirs"] / 1e3),
            f"{op['theirs'] / op['ours']:.1f}×",
        ]
        for op in one["ops"]
    ]
    head = ["forward and backward", "against", "ours, ms", "theirs, ms", "faster"]
    yield markdown_table(head, rows, left=2)
    for side in one["steps"]:
        yield f"Where the {_ms(side['gpu'])} ms of the GPU go, {side['side']}:"
        kinds = sorted(side["kinds"].items(), key=lambda item: -item[1]["gpu"])
        rows = [
            [name, *_milliseconds(kind["gpu"], kind["host"]), f"{kind['calls']:,}", _bounds(kind)]
            for name, kind in kinds
            if kind["gpu"] >= LEAST
        ]
        head = ["operations", "ms", "host, ms", "calls", "bound by"]
        yield markdown_table(head, rows, left=1)


def _milliseconds(*values: float) -> list[str]:
    return [_ms(value) for value in values]


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.1f}"


def _bounds(kind: dict[str, Any]) -> str:
    """What binds a tenth or more of the time."""
    shares = {limit: ms / kind["gpu"] for limit, ms in kind["limits"].items()}
    most = sorted((item for item in shares.items() if item[1] >= 0.1), key=lambda item: -item[1])
    return ", ".join(f"{limit} {share:.0%}" for limit, share in most)
