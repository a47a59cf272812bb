"""The prototype loss, forward and backward: streamed against N×K logits in memory."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from slim_kernels import prototype_loss
from torch import Tensor

from benchmarks.baselines.eager_slim import cross_entropy, sinkhorn
from benchmarks.suite.bench import Bench
from benchmarks.suite.workers import Sample, Worker

PROTOTYPES = (1024, 4096, 16384, 65536)
ROWS, WIDTH = 1000, 256
STUDENT_TEMP, TEACHER_TEMP = 0.1, 0.05
LARGEST_ERROR = 1e-10


def problem(
    rows: int, prototypes: int, width: int, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Unit rows of student (N, D), prototypes (K, D), teacher, its prototypes; made in place."""
    generator = torch.Generator().manual_seed(0)
    unit = [torch.randn(n, width, dtype=dtype, generator=generator) for n in (rows, prototypes) * 2]
    for x in unit:
        x.div_(torch.linalg.vector_norm(x, dim=1, keepdim=True))
    return [unit[0].requires_grad_(), unit[1].requires_grad_(), *unit[2:]]


def streamed(e: Tensor, c: Tensor, x: Tensor, d: Tensor) -> Tensor:
    weight = e.new_full((len(e),), 1 / len(e))
    return prototype_loss(
        e, c, x, d, weight=weight, student_temp=STUDENT_TEMP, teacher_temp=TEACHER_TEMP
    )


def materialised(e: Tensor, c: Tensor, x: Tensor, d: Tensor) -> Tensor:
    targets = sinkhorn(x @ d.T, TEACHER_TEMP)
    return cross_entropy(targets, e @ c.T, STUDENT_TEMP).mean()


def _side(
    loss: Callable[..., Tensor], rows: int, prototypes: int, width: int
) -> Callable[[], float]:
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
def test_time(bench: Bench, prototypes: int) -> None:
    bench.skip_if_quick(prototypes != PROTOTYPES[0])
    case = {"rows": 50 if bench.quick else ROWS, "prototypes": prototypes}
    rounds = bench.compare({"ours": ours, "baseline": baseline}, 3, **case, width=WIDTH)
    assert rounds.first["ours"] == pytest.approx(rounds.first["baseline"], rel=1e-4)
    bench.record("prototype_loss_time", case, **rounds.metrics())


def test_memory(bench: Bench) -> None:
    """Peak resident growth of the first run in a fresh process. More rows are more logits, and ours
    must not notice; what grows with K alone are the prototypes' gradients.
    """
    width, few, most = (16, 1024, 8192) if bench.quick else (WIDTH, ROWS, PROTOTYPES[-1])
    many = few * (48 if bench.quick else 16)  # more than an allocator's noise
    cases = [(few, k) for k in PROTOTYPES if k < most and not bench.quick]
    cases += [(few, most), (many, most)]

    def growth(make: Callable[..., Any], rows: int, prototypes: int) -> int:
        sizes = {"rows": rows, "prototypes": prototypes, "width": width}
        worker = Worker(make, bench.threads, keep=False, **sizes)
        sample: Sample = worker.run()
        worker.close()
        return sample.peak

    def measure() -> dict[tuple[int, int], int]:
        return {case: growth(ours, *case) for case in cases}

    mine = bench.benchmark.pedantic(measure, rounds=1)
    for rows, k in cases:
        peak = {"ours": mine[rows, k]}
        if rows == few:  # more would not fit into many machines
            peak["baseline"] = growth(baseline, rows, k)
        case = {"rows": rows, "prototypes": k}
        bench.record("prototype_loss_memory", case, peak_bytes=peak, logits_bytes=4 * rows * k)
    more_logits = 4 * (many - few) * most
    assert mine[many, most] - mine[few, most] < 0.1 * more_logits


@pytest.mark.parametrize("prototypes", PROTOTYPES)
def test_error(bench: Bench, prototypes: int) -> None:
    """Against the materialised loss in float64: the value's relative error, and the gradients'
    relative to their largest entry; of ours in float64 and, for comparison, of both sides in
    float32.
    """
    bench.skip_if_quick(prototypes != PROTOTYPES[0])
    rows = 50 if bench.quick else ROWS

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

    timed = bench.benchmark.pedantic(evaluate, (streamed, torch.float64), rounds=1)
    errors = {
        "ours_float64": error(timed),
        "ours_float32": error(evaluate(streamed, torch.float32)),
        "baseline_float32": error(evaluate(materialised, torch.float32)),
    }
    case = {"rows": rows, "prototypes": prototypes}
    bench.recorder.add("prototype_loss_error", case, errors=errors)
    assert max(errors["ours_float64"].values()) < LARGEST_ERROR
