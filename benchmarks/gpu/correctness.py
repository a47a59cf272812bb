"""Is every op exact, and does it give the same bits twice?"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from benchmarks.gpu.run import Run
from benchmarks.suite.ops import CHECKED, PROBLEMS, TIMED, TINY, Draw, prepare

FORWARD_BOUND, GRADIENT_BOUND = 2.0, 3.0
# Both sides are as exact as float32 is: below this their ratio is noise.
LEAST_ERROR = 4 * torch.finfo(torch.float32).eps
# A scalar's error is small by chance now and then: several draws are put together.
DRAWS = 8


@contextmanager
def poisoned() -> Iterator[None]:
    """Uninitialised memory is full of NaN, so that what is never written shows."""
    before = torch.get_deterministic_debug_mode()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        torch.utils.deterministic.fill_uninitialized_memory = fill


def relative_error(got: Tensor, want: Tensor) -> float:
    """‖got - want‖ / ‖want‖ in float64."""
    want = want.double()
    return (
        (got.double() - want).norm() / want.norm().clamp_min(torch.finfo(torch.float64).tiny)
    ).item()


def correctness(run: Run) -> None:
    """Ours against eager PyTorch in the same dtypes, both against float64."""
    small = run.quick or run.device.type == "cpu"
    for name, build in PROBLEMS.items():
        with run.attempt(name):
            squares: dict[str, list[float]] = {}
            for seed in range(1 if small else DRAWS):
                problem = build(TINY if small else CHECKED, Draw(run.device, seed))
                exact = prepare(problem, problem.eager, torch.float64)()
                eager = prepare(problem, problem.eager)()
                with poisoned():
                    ours = prepare(problem, problem.ours)()
                for what, want in exact.items():
                    sums = squares.setdefault(what, [0.0, 0.0])
                    for side, got in enumerate((ours, eager)):
                        sums[side] += relative_error(got[what], want) ** 2
            for what, sums in squares.items():
                mine, theirs = (math.sqrt(s / (1 if small else DRAWS)) for s in sums)
                bound = FORWARD_BOUND if what == "forward" else GRADIENT_BOUND
                ratio = mine / max(theirs, LEAST_ERROR)
                fields = {"ratio": ratio, "target": bound, "at_most": True}
                run.add(name, what, mine, baseline=theirs, **fields, check=True)


def determinism(run: Run) -> None:
    """Two runs on the same inputs, bit by bit."""
    small = run.quick or run.device.type == "cpu"
    for name, build in PROBLEMS.items():
        with run.attempt(name):
            # many programs: where races would show
            problem = build(TINY if small else TIMED, Draw(run.device, 0))
            once, again = (prepare(problem, problem.ours)() for _ in range(2))
            different = [what for what in once if not torch.equal(once[what], again[what])]
            fields = {"target": 0, "at_most": True, "note": ", ".join(different)}
            run.add(name, "output and gradients", float(len(different)), **fields, check=True)
