"""How inference scales with clips, frames, joints and people, and the prototype loss with prototypes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from benchmarks import bench_prototype_loss, encoders
from benchmarks.conftest import LeftOut
from benchmarks.encoders import Clips
from benchmarks.measure import interleave, workers
from benchmarks.records import Recorder

START = Clips(4, people=1, places=1)
AXES: dict[str, tuple[int, ...]] = {
    "batch": (1, 8, 32, 128, 512, 1024),
    "frames": (8, 16, 32, 64, 128, 256, 512),
    "joints": (17, 25, 67, 133),
    "people": (1, 2, 4, 8),
}
PROTOTYPES = (1024, 4096, 16_384, 65_536, 262_144)
ROWS, WIDTH = 256, 256
# Beyond these the baseline would take minutes or the memory of many machines.
MOST = {"batch": 128, "prototypes": 65_536}
ROUNDS, LEAST_SECONDS = 3, 0.05


def clips_at(axis: str, value: int) -> Clips:
    if axis == "people":
        return dataclasses.replace(START, people=value, places=value)
    return dataclasses.replace(START, **{{"batch": "clips"}.get(axis, axis): value})


def record(recorder: Recorder, rounds: Any, case: dict[str, Any], **where: Any) -> None:
    if "baseline" in rounds.seconds:
        recorder.add("scaling", case, **rounds.figures(), peak_bytes=rounds.peaks(), **where)
    else:
        alone = rounds.figures(baseline="ours")["seconds"]["ours"]
        peak = {"ours": rounds.peak_bytes["ours"]}
        recorder.add("scaling", case, seconds={"ours": alone}, peak_bytes=peak, rounds=ROUNDS, **where)


@pytest.mark.parametrize(("axis", "value"), [(axis, value) for axis, values in AXES.items() for value in values])
def test_inference(
    benchmark: Any,
    quick: bool,
    threads: int,
    device: str,
    recorder: Recorder,
    left_out: LeftOut,
    axis: str,
    value: int,
) -> None:
    if quick and (axis, value) != ("batch", 1):
        pytest.skip("one case is enough to see that it runs")
    precision = left_out.without_slow_precisions(("bf16", "fp32"), device)[0]
    sides = {"ours": encoders.ours}
    if value <= MOST.get(axis, value):
        sides["baseline"] = encoders.slim_eager
    clips = clips_at(axis, value)
    with workers(sides, threads, clips=clips, precision=precision, device=device) as built:
        short = not quick and value < 500
        rounds = interleave(benchmark, built, ROUNDS if short else 2, LEAST_SECONDS if short else 0)
    case = {"axis": axis, "value": value, "precision": precision}
    record(recorder, rounds, case, threads=threads, device=device)


@pytest.mark.parametrize("prototypes", PROTOTYPES)
def test_prototypes(benchmark: Any, quick: bool, threads: int, recorder: Recorder, prototypes: int) -> None:
    if quick and prototypes != PROTOTYPES[0]:
        pytest.skip("one case is enough to see that it runs")
    sides = {"ours": bench_prototype_loss.ours}
    if prototypes <= MOST["prototypes"]:
        sides["baseline"] = bench_prototype_loss.baseline
    rows = 50 if quick else ROWS
    with workers(sides, threads, rows=rows, prototypes=prototypes, width=WIDTH) as built:
        rounds = interleave(benchmark, built, 2 if quick else ROUNDS)
    case = {"axis": "prototypes", "value": prototypes, "precision": "fp32"}
    record(recorder, rounds, case, threads=threads, device="cpu")
