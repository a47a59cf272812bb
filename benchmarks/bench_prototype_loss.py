"""The feature-reconstruction loss, forward and backward: streamed over prototypes against N×K logits in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from slim_kernels import prototype_loss
from torch import Tensor

from benchmarks.baselines.eager_slim import cross_entropy, sinkhorn
from benchmarks.measure import Sample, Worker, interleave, workers
from benchmarks.records import Recorder

PROTOTYPES = (1024, 4096, 16384, 65536)
ROWS, WIDTH = 1000, 256
STUDENT_TEMP, TEACHER_TEMP = 0.1, 0.05
LARGEST_ERROR = 1e-10


def problem(rows: int, prototypes: int, width: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Unit rows: student (N, D), its prototypes (K, D), teacher (N, D), its prototypes (K, D).

    Made in place: what a side peaks at must be its own.
    """
    generator = torch.Generator().manual_seed(0)
    unit = [torch.randn(n, width, dtype=dtype, generator=generator) for n in (rows, prototypes) * 2]
    for x in unit:
        x.div_(torch.linalg.vector_norm(x, dim=1, keepdim=True))
    return [unit[0].requires_grad_(), unit[1].requires_grad_(), *unit[2:]]


def streamed(e: Tensor, c: Tensor, x: Tensor, d: Tensor) -> Tensor:
    weight = e.new_full((len(e),), 1 / len(e))
    return prototype_loss(e, c, x, d, weight=weight, student_temp=STUDENT_TEMP, teacher_temp=TEACHER_TEMP)


def materialised(e: Tensor, c: Tensor, x: Tensor, d: Tensor) -> Tensor:
    targets = sinkhorn(x @ d.T, TEACHER_TEMP)
    return cross_entropy(targets, e @ c.T, STUDENT_TEMP).mean()


def _side(loss: Callable[..., Tensor], rows: int, prototypes: int, width: int) -> Callable[[], float]:
    inputs = problem(rows, prototypes, width)

    def run() -> float:
        value = loss(*inputs)
        value.backward()
        inputs[0].grad = inputs[1].grad = None
        return value.item()

    return run


def ours(**sizes: int) -> Callable[[], float]:
    return _side(streamed, **sizes)


def baseline(**sizes: int) -> Callable[[], float]:
    return _side(materialised, **sizes)


@pytest.mark.parametrize("prototypes", PROTOTYPES)
def test_time(benchmark: Any, quick: bool, threads: int, recorder: Recorder, prototypes: int) -> None:
    rows = 50 if quick else ROWS
    if quick and prototypes != PROTOTYPES[0]:
        pytest.skip("one case is enough to see that it runs")
    sides = {"ours": ours, "baseline": baseline}
    with workers(sides, threads, rows=rows, prototypes=prototypes, width=WIDTH) as built:
        result = interleave(benchmark, built, rounds=2 if quick else 3)
    assert result.first["ours"] == pytest.approx(result.first["baseline"], rel=1e-4)
    case = {"rows": rows, "prototypes": prototypes}
    recorder.add("prototype_loss_time", case, **result.figures(), threads=threads)


def test_memory(benchmark: Any, quick: bool, threads: int, recorder: Recorder) -> None:
    """Peak resident growth of the first run in a fresh process. More rows are more logits, and ours must not notice;
    what grows with K alone are the prototypes' gradients.
    """
    width, few, most = (16, 1024, 8192) if quick else (WIDTH, ROWS, PROTOTYPES[-1])
    many = [times * few for times in ((48,) if quick else (16,))]  # more than an allocator's noise
    cases = [(few, k) for k in PROTOTYPES if k < most and not quick] + [(rows, most) for rows in (few, *many)]

    def growth(make: Callable[..., Any], rows: int, prototypes: int) -> int:
        worker = Worker(make, threads, keep=False, rows=rows, prototypes=prototypes, width=width)
        sample: Sample = worker.run()
        worker.close()
        return sample.peak

    def measure() -> dict[tuple[int, int], int]:
        return {case: growth(ours, *case) for case in cases}

    mine = benchmark.pedantic(measure, rounds=1)
    for rows, k in cases:
        peak = {"ours": mine[rows, k]}
        if rows == few:  # more would not fit into many machines
            peak["baseline"] = growth(baseline, rows, k)
        recorder.add(
            "prototype_loss_memory", {"rows": rows, "prototypes": k}, peak_bytes=peak, logits_bytes=4 * rows * k,
            threads=threads,
        )  # fmt: skip
    more_logits = 4 * (many[-1] - few) * most
    assert mine[many[-1], most] - mine[few, most] < 0.1 * more_logits


@pytest.mark.parametrize("prototypes", PROTOTYPES)
def test_error(benchmark: Any, quick: bool, recorder: Recorder, prototypes: int) -> None:
    """Against the materialised loss in float64: the value's relative error, and the gradients' relative to their
    largest entry; of ours in float64 and, for comparison, of both sides in float32.
    """
    if quick and prototypes != PROTOTYPES[0]:
        pytest.skip("one case is enough to see that it runs")
    rows = 50 if quick else ROWS

    def evaluate(loss: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        inputs = [x.detach().to(dtype) for x in problem(rows, prototypes, WIDTH, torch.float64)]
        differentiated = [x.requires_grad_() for x in inputs[:2]]
        value = loss(*inputs)
        return [value.detach(), *torch.autograd.grad(value, differentiated)]

    exact = evaluate(materialised, torch.float64)

    def error(result: list[Tensor]) -> dict[str, float]:
        names = ("value", "student", "prototypes")
        return {
            name: ((got - want).abs().max() / want.abs().max()).item()
            for name, got, want in zip(names, result, exact, strict=True)
        }

    errors = {"ours_float64": error(benchmark.pedantic(evaluate, (streamed, torch.float64), rounds=1))}
    errors["ours_float32"] = error(evaluate(streamed, torch.float32))
    errors["baseline_float32"] = error(evaluate(materialised, torch.float32))
    recorder.add("prototype_loss_error", {"rows": rows, "prototypes": prototypes}, errors=errors)
    assert max(errors["ours_float64"].values()) < LARGEST_ERROR
