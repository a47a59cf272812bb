"""Run an op at small sizes in the emulator and count what its launches and PyTorch do."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from slim_kernels.attention.rotary import tables
from slim_kernels.cost.problems import Problem, problems
from slim_kernels.cost.work import Work, count_work, extrapolate
from slim_kernels.runtime.dispatch import VARIABLE
from slim_kernels.runtime.target import emulated_target

_PRODUCTS = {"mm": (0, 1), "addmm": (1, 2), "bmm": (0, 1)}


@dataclass(frozen=True)
class Pass:
    """A pass of an op."""

    launches: tuple[Work, ...]
    torch: dict[str, float]
    """What PyTorch does beside them: products (their floating-point operations), product bytes and
    bytes (the tensors of products and of every other operation) and calls.
    """


class TorchCounter(TorchDispatchMode):
    """Counts PyTorch's operations, those inside slim_kernels' own ops included."""

    def __init__(self) -> None:
        super().__init__()
        self.amounts: defaultdict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "slim_kernels":
            with self:  # calling the op itself would hide what it does
                return OPDEFS[func._schema.name]._init_fn(*args)
        kwargs = kwargs or {}
        with self:
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        result = func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        if func.is_view or name.startswith(("empty", "new_empty")):
            return result
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        size = sum(x.numel() * x.element_size() for x in tensors)
        self.amounts["calls"] += size > 0
        if name in _PRODUCTS:
            left, right = (args[place] for place in _PRODUCTS[name])
            self.amounts["products"] += 2.0 * left.numel() * right.shape[-1]
        self.amounts["product bytes" if name in _PRODUCTS else "bytes"] += size
        return result


def count_number(job: tuple[int, int, list[int], str]) -> dict[str, Pass]:
    """count_problem for a process of its own, in one thread: the problem's number, batch and rows
    as `problems` takes them, and the target.
    """
    number, batch, rows, target = job
    torch.set_num_threads(1)
    return count_problem(problems(batch, tuple(rows))[number], target)


Counted = dict[tuple[int, ...], dict[str, Pass]]
"""The passes of a problem at each of its combinations of small sizes."""


def count_problem(problem: Problem, target: str) -> dict[str, Pass]:
    """The passes of a problem at its sizes, compiled for `target` ("sm_90").

    Raises: RuntimeError where the op launches other kernels at other sizes.
    """
    return at_sizes(problem, count_small(problem, target))


def count_small(problem: Problem, target: str) -> Counted:
    """The passes at all small sizes."""
    corners = itertools.product(*problem.small)
    return {sizes: count_at(problem, sizes, target) for sizes in corners}


def at_sizes(problem: Problem, corners: Counted) -> dict[str, Pass]:
    """The passes at a problem's sizes, from those at small ones, which may be of the same problem
    at other sizes. Raises: see count_problem.
    """
    passes = {}
    for name in ("forward", "backward"):
        found = {sizes: at[name] for sizes, at in corners.items()}
        largest = found[max(found)]
        kernels = [work.kernel for work in largest.launches]
        if any([work.kernel for work in at.launches] != kernels for at in found.values()):
            raise RuntimeError(f"{problem.op} launches other kernels at other sizes")
        launches = []
        for number, work in enumerate(largest.launches):
            amounts = {sizes: at.launches[number].amounts for sizes, at in found.items()}
            launches.append(replace(work, amounts=extrapolate(amounts, problem.sizes)))
        beside = {sizes: at.torch for sizes, at in found.items()}
        passes[name] = Pass(tuple(launches), extrapolate(beside, problem.sizes))
    return passes


def _made_before(*arguments: Any) -> Any:
    """What a run makes once and keeps is not counted."""
    with _disable_current_modes():
        return tables(*arguments)


def count_at(problem: Problem, sizes: tuple[int, ...], target: str) -> dict[str, Pass]:
    """The passes at small sizes, as they run."""
    from ptx_emulator.device import emulated_gpu

    torch.manual_seed(0)
    forward, differentiated = problem.build(*sizes)
    with (
        emulated_gpu(target, detailed=True) as gpu,
        emulated_target(gpu.capability),
        problem.planned(sizes),
        mock.patch("slim_kernels.attention.tables", _made_before),
        mock.patch("slim_kernels.runtime.arguments.contents_checked", return_value=False),
        mock.patch("slim_kernels.embed_tokens.contents_checked", return_value=False),
        mock.patch.dict(os.environ, {VARIABLE: "triton"}),
    ):

        def count(call: Callable[[], Any]) -> tuple[Any, Pass]:
            first = len(gpu.reports)
            with TorchCounter() as counter:
                result = call()
            pairs = zip(gpu.reports[first:], gpu.kernels[first:], strict=True)
            works = tuple(count_work(report, kernel) for report, kernel in pairs)
            return result, Pass(works, dict(counter.amounts))

        out, forward_pass = count(forward)
        if not differentiated:
            return {"forward": forward_pass, "backward": Pass((), {})}
        outputs = out if isinstance(out, tuple) else (out,)
        grads = [torch.ones_like(x) for x in outputs]
        _, backward_pass = count(lambda: torch.autograd.grad(outputs, differentiated, grads))
    return {"forward": forward_pass, "backward": backward_pass}
