"""The drop-in encoder by each way in which other code runs it, one clip at a time and in batches.

Against SLiM's encoder in eager PyTorch in the same precision.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from benchmarks import paths
from benchmarks.bench_inference import SAME, TOY
from benchmarks.conftest import LeftOut
from benchmarks.encoders import Clips
from benchmarks.measure import interleave, workers
from benchmarks.records import Recorder

SIDES: dict[str, Callable[..., Any]] = {
    "eager": paths.eager,
    "SLiMEncoder": paths.loaded,
    "optimize()": paths.optimized,
    "CUDA graph": paths.graphed,
    "torch.compile": paths.compiled,
    "torch.export": paths.exported,
    "ONNX": paths.onnx,
}
BF16 = ("eager", "SLiMEncoder", "optimize()", "CUDA graph")
"""The sides that are asked in bfloat16 too: exported files hold float32."""
CASES = {
    "one-of-two": Clips(1, people=1),
    "two-of-two": Clips(1),
    "batch": Clips(32, people=1.22),
}
ROUNDS = {"one-of-two": 7, "two-of-two": 7, "batch": 3}


@pytest.mark.parametrize("name", CASES)
def test_paths(
    benchmark: Any, quick: bool, threads: int, device: str, recorder: Recorder, left_out: LeftOut, name: str
) -> None:
    if quick and name != "two-of-two":
        pytest.skip("one case is enough to see that it runs")
    clips = TOY if quick else CASES[name]
    names = [side for side in SIDES if device == "cuda" or side != "CUDA graph"]
    if quick or not left_out.without_compiler(("compiled",), device):
        names.remove("torch.compile")
    if device == "cuda":
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            names.remove("ONNX")
            left_out.add("ONNX on the GPU: this onnxruntime has no CUDAExecutionProvider")
    sides = {
        f"{precision} {side}": partial(SIDES[side], precision=precision)
        for precision in left_out.without_slow_precisions(("bf16", "fp32"), device)
        for side in names
        if precision == "fp32" or side in BF16
    }
    with workers(sides, threads, clips=clips, device=device) as built:
        rounds = interleave(
            benchmark, built, 2 if quick else ROUNDS[name], 0 if quick else 0.3, shown="fp32 SLiMEncoder"
        )
    for side in sides:
        precision, path = side.split(" ", 1)
        baseline = f"{precision} eager"
        if side == baseline:
            continue
        assert rounds.first[side] == pytest.approx(rounds.first[baseline], abs=SAME[precision])
        case = {"path": path, "clips": clips.clips, "people": clips.people, "places": clips.places}
        found = {**rounds.figures(baseline, side), "peak_bytes": rounds.peaks(baseline, side)}
        recorder.add("drop_in", {**case, "precision": precision}, **found, threads=threads, device=device)
