"""The drop-in encoder by each way in which other code runs it, one clip at a time and in batches.

Against SLiM's encoder in eager PyTorch in the same precision.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from benchmarks.suite import runtimes
from benchmarks.suite.bench import Bench
from benchmarks.suite.bench_inference import SAME, TOY
from benchmarks.suite.encoders import Clips

SIDES: dict[str, Callable[..., Any]] = {
    "eager": runtimes.eager,
    "SLiMEncoder": runtimes.loaded,
    "optimize()": runtimes.optimized,
    "CUDA graph": runtimes.graphed,
    "torch.compile": runtimes.compiled,
    "torch.export": runtimes.exported,
    "ONNX": runtimes.onnx,
}
BF16 = ("eager", "SLiMEncoder", "optimize()", "CUDA graph")
"""The sides that are measured in bfloat16 too: exported files hold float32."""
CASES = {"one-of-two": Clips(1, people=1), "two-of-two": Clips(1), "batch": Clips(32, people=1.22)}
ROUNDS = {"one-of-two": 7, "two-of-two": 7, "batch": 3}


def runnable_sides(bench: Bench, device: str) -> list[str]:
    """The sides that this machine has what they need for."""
    names = list(bench.runnable_sides(tuple(SIDES), device))
    if bench.quick and "torch.compile" in names:
        names.remove("torch.compile")
    if device == "cpu":
        names.remove("CUDA graph")
    else:
        import onnxruntime

        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            names.remove("ONNX")
            bench.leave_out("ONNX on the GPU: this onnxruntime has no CUDAExecutionProvider")
    return names


@pytest.mark.parametrize("name", CASES)
def test_runtimes(bench: Bench, device: str, name: str) -> None:
    bench.skip_if_quick(name != "two-of-two")
    clips = TOY if bench.quick else CASES[name]
    names = runnable_sides(bench, device)
    sides = {
        f"{precision} {side}": partial(SIDES[side], precision=precision)
        for precision in bench.native_precisions(device=device)
        for side in names
        if precision == "fp32" or side in BF16
    }
    rounds = bench.compare(
        sides, ROUNDS[name], 0.3, shown="fp32 SLiMEncoder", clips=clips, device=device
    )
    for side in sides:
        precision, path = side.split(" ", 1)
        pair = {"baseline": f"{precision} eager", "ours": side}
        if path == "eager":
            continue
        assert rounds.first[side] == pytest.approx(
            rounds.first[pair["baseline"]], abs=SAME[precision]
        )
        case = {"path": path, **clips.case, "precision": precision}
        metrics = {**rounds.metrics(**pair), "peak_bytes": rounds.peaks(**pair)}
        bench.record("drop_in", case, **metrics, device=device)
