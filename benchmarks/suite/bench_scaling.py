"""How inference scales with clips, frames, joints and people, and the loss with prototypes."""

import dataclasses
from typing import Any

import pytest

from benchmarks.suite import bench_prototype_loss, encoders
from benchmarks.suite.bench import Bench
from benchmarks.suite.encoders import Clips
from benchmarks.suite.workers import Rounds

START = Clips(4, people=1, slots=1)
AXES: dict[str, tuple[int, ...]] = {
    "batch": (1, 8, 32, 128, 512, 1024),
    "frames": (8, 16, 32, 64, 128, 256, 512),
    "joints": (17, 25, 67, 133),
    "people": (1, 2, 4, 8),
}
PROTOTYPES = (1024, 4096, 16_384, 65_536, 262_144)
ROWS, WIDTH = 256, 256
# Larger ones would take the baseline minutes or the memory of many machines.
LARGEST = {"batch": 128, "prototypes": 65_536}
ROUNDS, LEAST_SECONDS = 3, 0.05


def clips_at(axis: str, value: int) -> Clips:
    if axis == "people":
        return dataclasses.replace(START, people=value, slots=value)
    return dataclasses.replace(START, **{{"batch": "clips"}.get(axis, axis): value})


def record(bench: Bench, rounds: Rounds, case: dict[str, Any], device: str) -> None:
    if "baseline" in rounds.seconds:
        metrics = {**rounds.metrics(), "peak_bytes": rounds.peaks()}
    else:
        seconds = {"ours": rounds.metrics(baseline="ours")["seconds"]["ours"]}
        peak = {"ours": rounds.peak_bytes["ours"]}
        metrics = {"seconds": seconds, "peak_bytes": peak, "rounds": ROUNDS}
    bench.record("scaling", case, **metrics, device=device)


@pytest.mark.parametrize(
    ("axis", "value"), [(axis, value) for axis, values in AXES.items() for value in values]
)
def test_inference(bench: Bench, device: str, axis: str, value: int) -> None:
    bench.skip_if_quick((axis, value) != ("batch", 1))
    precision = bench.native_precisions(device=device)[0]
    sides = {"ours": encoders.ours}
    if value <= LARGEST.get(axis, value):
        sides["baseline"] = encoders.slim_eager
    built = {"clips": clips_at(axis, value), "precision": precision, "device": device}
    rounds = bench.compare(sides, *((ROUNDS, LEAST_SECONDS) if value < 500 else (2, 0)), **built)
    record(bench, rounds, {"axis": axis, "value": value, "precision": precision}, device)


@pytest.mark.parametrize("prototypes", PROTOTYPES)
def test_prototypes(bench: Bench, prototypes: int) -> None:
    bench.skip_if_quick(prototypes != PROTOTYPES[0])
    sides = {"ours": bench_prototype_loss.ours}
    if prototypes <= LARGEST["prototypes"]:
        sides["baseline"] = bench_prototype_loss.baseline
    built = {"rows": 50 if bench.quick else ROWS, "prototypes": prototypes, "width": WIDTH}
    rounds = bench.compare(sides, ROUNDS, **built)
    record(bench, rounds, {"axis": "prototypes", "value": prototypes, "precision": "fp32"}, "cpu")
