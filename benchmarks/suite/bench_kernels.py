"""Each op of slim_kernels beside plain PyTorch, and the machine's matrix product and copy."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.records.recorder import quartiles
from benchmarks.suite import encoders
from benchmarks.suite.attention_baselines import by_length
from benchmarks.suite.bench import Bench
from benchmarks.suite.encoders import MATMUL_SIZE, Clips
from benchmarks.suite.ops import PROBLEMS, TIMED, TINY, Draw, Problem, prepare

SIZES = {"cpu": dataclasses.replace(TIMED, samples=4, rows=560, prototypes=16_384), "cuda": TIMED}
COPIED = 1 << 28
LEAST_SECONDS = 0.05


def problem_of(op: str, tiny: bool, device: str) -> Problem:
    """The op at its sizes; attention among all tokens is compared with SDPA by length."""
    sizes = TINY if tiny else SIZES[device]
    problem = PROBLEMS[op](sizes, Draw(torch.device(device), 0))
    if op == "packed_attention":
        eager = by_length(sizes.pack(torch.device(device)), sizes.width // sizes.heads)
        return dataclasses.replace(problem, eager=eager)
    return problem


def side(op: str, which: str, tiny: bool, device: str) -> Callable[[], None]:
    """which: ours or eager."""
    problem = problem_of(op, tiny, device)
    run = prepare(problem, getattr(problem, which))

    def discard() -> None:
        run()

    return discard


def _sdpa(query: Any, key: Any, value: Any, *_others: Any, **_named: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _sdpa_backward(
    grad: Any, query: Any, key: Any, value: Any, *_others: Any, **_named: Any
) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


# FlopCounterMode does not know the CPU's.
SDPA = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _sdpa,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _sdpa_backward,
}


def work(op: str, tiny: bool, device: str) -> tuple[int, int]:
    """Operations of the side that needs fewer; bytes of inputs, output and gradients."""
    problem = problem_of(op, tiny, device)
    counts = []
    for which in (problem.ours, problem.eager):
        run = prepare(problem, which)
        results = run()  # an op's formula is registered when it first runs
        with FlopCounterMode(display=False, custom_mapping=SDPA) as counter:
            run()
        counts.append(counter.get_total_flops())
    moved: list[Tensor] = [*problem.inputs.values(), *results.values()]
    return min(counts), sum(x.numel() * x.element_size() for x in moved)


@pytest.mark.parametrize("op", [op for op in PROBLEMS if not op.endswith("streamed")])
def test_kernel(bench: Bench, device: str, op: str) -> None:
    sides = {"ours": partial(side, which="ours"), "baseline": partial(side, which="eager")}
    built = {"op": op, "tiny": bench.quick, "device": device}
    rounds = bench.compare(sides, 5, LEAST_SECONDS, **built)
    flops, moved = work(**built)
    precision = "bf16" if device == "cuda" else "fp32"
    case = {"op": op, "pass": "forward and backward", "precision": precision}
    bench.record("kernels", case, **rounds.metrics(), flops=flops, bytes=moved, device=device)


def copy(size: int, device: str) -> Callable[[], None]:
    source = torch.randint(-128, 128, (size,), dtype=torch.int8).to(device)
    target = torch.empty_like(source)

    def run() -> None:
        target.copy_(source)

    return run


@pytest.mark.parametrize("precision", encoders.PRECISIONS)
def test_ceilings(bench: Bench, device: str, precision: str) -> None:
    if bench.quick or precision not in bench.native_precisions((precision,), device):
        pytest.skip(
            "the machine's ceilings: not at toy sizes, nor in a precision that it does not "
            "multiply natively"
        )
    size = COPIED * (16 if device == "cuda" else 1)
    sides = {
        "ours": partial(encoders.torch_matmul, Clips(1), precision, device),
        "oneDNN": partial(encoders.onednn_matmul, Clips(1), precision, device),
        "copy": partial(copy, size, device),
    }
    seconds = bench.compare(sides, 5).seconds
    amounts = {"ours": 2 * MATMUL_SIZE**3, "oneDNN": MATMUL_SIZE**3 / 2, "copy": 2 * size}
    rates = {name: amount / np.array(seconds[name]) / 1e9 for name, amount in amounts.items()}
    gflops, gbytes = quartiles(np.maximum(rates["ours"], rates["oneDNN"])), quartiles(rates["copy"])
    bench.record("ceilings", {"precision": precision}, gflops=gflops, gbytes=gbytes, device=device)
