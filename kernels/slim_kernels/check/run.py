"""Every launch on file, run as compiled: on an emulated device, against float64.

An op passes where its error is at most twice (a gradient's three times) that of PyTorch's
operations in the same dtype, where two runs agree bit by bit, and where the emulator finds nothing.
"""

import importlib
import os
import pkgutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from ptx_emulator import EmulationError, PTXError
from ptx_emulator.device import EmulatedGPU, emulated_gpu
from torch import Tensor

import slim_kernels
from slim_kernels.check.cases import DEVICES, KERNELS
from slim_kernels.check.problems import Problem, problems
from slim_kernels.runtime.dispatch import VARIABLE
from slim_kernels.runtime.launch import LAUNCHES
from slim_kernels.runtime.target import emulated_target

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# below this an error is that of sums in float32, which no two orders share
ROUNDING = 2e-6


@dataclass(frozen=True)
class Outcome:
    """What one problem showed on one device."""

    problem: Problem
    capability: int
    dtype: str
    autocast: bool
    output: tuple[float, float]
    """Relative errors, ours and PyTorch's."""
    gradients: tuple[tuple[float, float], ...]
    fault: str

    def __str__(self) -> str:
        ours, theirs = self.output
        worst = max(self.gradients, key=lambda pair: pair[0] / (pair[1] + ROUNDING), default=(0, 0))
        stream = "fp32" if self.autocast else self.dtype
        return (
            f"{self.problem.op:<17}{self.capability:>4} {self.dtype:<5}{stream:<5}"
            f"{self.problem.label:<52}{ours:>8.1e} {theirs:>8.1e}  {worst[0]:>8.1e} "
            f"{worst[1]:>8.1e}  {self.fault}"
        )


HEAD = (
    f"{'op':<17}{'sm':>4} {'type':<5}{'strm':<5}{'problem':<52}{'error':>8} {'torch':>8}  "
    f"{'gradient':>8} {'torch':>8}"
)


def run(
    capability: int,
    dtypes: Sequence[str] = tuple(DTYPES),
    *,
    every: bool = False,
    sample: bool = False,
    share: tuple[int, int] = (0, 1),
    op: str | None = None,
) -> Iterator[Outcome]:
    """Run the problems of all ops, or of `op`, on an emulated device.

    every: at every size, with every flag and residual stream; sample: each problem in one of
    `dtypes` only; share: (i, n), every n-th problem from the i-th on.
    Raises:
        RuntimeError: at the end, where all ops ran: launches on file that no problem reached.
    """
    reached: dict[str, list[dict[str, Any]]] = {}
    torch.manual_seed(0)
    for number, problem in enumerate(problems(every)):
        if op in (None, problem.op) and number % share[1] == share[0]:
            for dtype in (dtypes[number // max(2, share[1]) % len(dtypes)],) if sample else dtypes:
                # the residual stream in float32 and in the matrices' dtype, in turn
                for autocast in (False, True) if every else (bool((number + number // 4) % 2),):
                    yield run_problem(problem, capability, dtype, autocast, reached)
    missing = _missing(capability, reached) if op is None and share[1] == 1 else ""
    if missing:
        raise RuntimeError(f"No problem reaches these launches of sm_{capability}: {missing}")


@contextmanager
def emulate(capability: int) -> Iterator[EmulatedGPU]:
    """While it is open, operations on CPU tensors run their kernels as compiled for a compute
    capability (90 for 9.0) in the emulator; gives the device.
    """
    for module in pkgutil.walk_packages(slim_kernels.__path__, "slim_kernels."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)  # the device takes kernels that are defined
    with emulated_gpu(f"sm_{capability}") as gpu, emulated_target(capability), _variable(""):
        yield gpu


def run_problem(
    problem: Problem,
    capability: int,
    dtype: str,
    autocast: bool,
    reached: dict[str, list[dict[str, Any]]] | None = None,
) -> Outcome:
    """Run one problem; `autocast`: with float32 parameters under autocast, else all in `dtype`."""
    kind = DTYPES[dtype]
    autocast = autocast and problem.op != "packed_attention"
    inputs = [x.to(kind).float() if autocast else x.to(kind) for x in problem.inputs]
    if problem.op == "prototype_loss":
        inputs = [x.float() if n % 2 else x.to(kind) for n, x in enumerate(problem.inputs)]
        autocast = False
    exact = _evaluate(problem, problem.exact, [x.double() for x in inputs], None)
    mixed = kind if autocast else None
    with _variable("reference"):
        # the prototypes' products are float16's on a GPU
        if problem.op == "prototype_loss":
            theirs = _evaluate(problem, problem.exact, [x.float() for x in inputs], torch.float16)
        else:
            theirs = _evaluate(problem, problem.call, inputs, mixed)
    fault = ""
    try:
        with emulate(capability) as gpu:
            runs = [_evaluate(problem, problem.call, inputs, mixed) for _ in range(2)]
    except (EmulationError, PTXError) as error:
        nan = float("nan")
        return Outcome(problem, capability, dtype, autocast, (nan, nan), (), str(error))
    if not all(torch.equal(a, b) for a, b in zip(*runs, strict=True)):
        fault = "two runs differ"
    if reached is not None:
        _note(gpu, reached)
    pairs = [(_error(x, e), _error(t, e)) for x, t, e in zip(runs[0], theirs, exact, strict=True)]
    for number, (ours, torchs) in enumerate(pairs):
        if not ours <= (3 if number else 2) * torchs + ROUNDING:
            fault = f"gradient {number} is off" if number else "the output is off"
    return Outcome(problem, capability, dtype, autocast, pairs[0], tuple(pairs[1:]), fault)


def _evaluate(
    problem: Problem, function: Any, inputs: list[Tensor], mixed: torch.dtype | None
) -> list[Tensor]:
    """The output and the gradients of a fixed weighted sum of it."""
    leaves = [
        x.detach().clone().requires_grad_(n not in problem.constants) for n, x in enumerate(inputs)
    ]
    with torch.autocast("cpu", dtype=mixed) if mixed is not None else nullcontext():
        output = function(*leaves)
    upstream = torch.randn(
        output.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    wanted = [x for x in leaves if x.requires_grad]
    gradients = torch.autograd.grad(output, wanted, upstream.to(output.dtype))
    return [output.detach(), *gradients]


def _error(got: Tensor, exact: Tensor) -> float:
    return float((got.double() - exact).norm() / (exact.norm() + 1e-30))


@contextmanager
def _variable(value: str) -> Iterator[None]:
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def _note(gpu: EmulatedGPU, reached: dict[str, list[dict[str, Any]]]) -> None:
    """Which kernels ran, with their constants, warps and stages."""
    for kernel in gpu.kernels:
        names = kernel.src.fn.arg_names
        constants = {names[place[0]]: value for place, value in kernel.src.constants.items()}
        constants["num_warps"] = kernel.metadata.num_warps
        constants["num_stages"] = kernel.metadata.num_stages
        reached.setdefault(kernel.src.fn.__name__, []).append(constants)


def _missing(capability: int, reached: dict[str, list[dict[str, Any]]]) -> str:
    """The launches on file for a device that did not run."""
    missing = []
    for name, by_architecture in LAUNCHES.items():
        function = KERNELS[name].function.__name__
        for limits, tile in by_architecture[DEVICES[capability].entry]:
            ran = any(tile.items() <= constants.items() for constants in reached.get(function, []))
            if not ran:
                missing.append(f"{name} up to {limits}")
    return ", ".join(missing)
