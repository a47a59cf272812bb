"""The command: counts what a step sends on this machine, and predicts it on many GPUs."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import benchmarks.scaling
from benchmarks.records.pages import RESULTS
from benchmarks.records.predictions import load_predictions
from benchmarks.records.scaling import scaling_tables
from benchmarks.scaling.collectives import Sizes, build_model, list_collectives
from benchmarks.scaling.counting import count_step
from benchmarks.scaling.prediction import predict_step
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.heads import HeadConfig
from slim_fast.model.slim import ModelConfig
from slim_fast.training.config import OptimConfig, PretrainConfig
from slim_fast.training.sharding import Sharding
from slim_fast.views.pipeline import LocalViewConfig, ViewsConfig

GPUS = (8, 64, 512)
SHARDINGS: tuple[Sharding, ...] = ("ddp", "fsdp")
SMALLEST = PretrainConfig(
    steps=8,
    batch=4,
    views=ViewsConfig(window=16, local=[LocalViewConfig(8, 1, (0.35, 0.7))]),
    model=ModelConfig(EncoderConfig(32, 2, 2), HeadConfig(24, 16, 40)),
    optim=OptimConfig(freeze_prototypes=0.0),
)
"""Whose bytes are counted: rows that the processes cannot divide are among its weights."""


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.scaling",
        description=benchmarks.scaling.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--processes", type=int, nargs="*", default=[1, 2, 4], help="whose bytes are counted here"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record there too")
    options = parser.parse_args(arguments)
    (recorded,) = load_predictions(RESULTS.parent / "predictions")
    one, device = recorded["steps"][0], recorded["device"]
    found: dict[str, Any] = {
        "device": device,
        "one": {"samples": one["samples"], "gpu": one["gpu"], "step": one["launched"]},
        "counted": list(compare(options.processes)),
        "steps": [
            predict_step(one, device, gpus, batch, sharding)
            for gpus, batch in plan(one["samples"])
            for sharding in SHARDINGS
        ],
    }
    print(scaling_tables(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    wrong = [row for row in found["counted"] if row["model"] != row["counted"]]
    if wrong:
        print(f"error: model and count disagree: {wrong}", file=sys.stderr)
    return len(wrong)


def plan(batch: int) -> Iterator[tuple[int, int]]:
    """GPUs and samples a step: the recipe's batch, one of 8 GPUs, and the recipe's on each GPU."""
    for whole in (batch, 8 * batch):
        yield from ((gpus, whole) for gpus in GPUS if whole % gpus == 0)
    yield from ((gpus, gpus * batch) for gpus in GPUS[1:])


def compare(processes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Bytes by kind, as the model has them and as real processes do."""
    model = build_model(SMALLEST, Sizes())
    for size in processes:
        for sharding in SHARDINGS:
            expected: Counter[str] = Counter()
            for collective in list_collectives(SMALLEST, model, size, sharding):
                expected[collective.kind] += collective.bytes
            counted = count_step(SMALLEST, size, sharding)
            yield {
                "processes": size,
                "sharding": sharding,
                "model": dict(sorted(expected.items())),
                "counted": dict(sorted(counted.items())),
            }


if __name__ == "__main__":
    sys.exit(main())
