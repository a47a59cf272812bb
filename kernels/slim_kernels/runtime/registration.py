"""How an op is registered: on its tensors' device, with its rule under autocast and its FLOP
formula.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch._library.custom_ops import CustomOpDef
from torch.utils.flop_counter import register_flop_formula

_LIBRARY = torch.library.Library("slim_kernels", "FRAGMENT")


def kernel_op(name: str) -> Callable[[Callable[..., Any]], CustomOpDef]:
    """`torch.library.custom_op` for a function that launches kernels: on the device of its first
    tensor, which need not be the current one.
    """

    def decorate(function: Callable[..., Any]) -> CustomOpDef:
        @wraps(function)
        def launching(*arguments: Any) -> Any:
            first = next(argument for argument in arguments if isinstance(argument, Tensor))
            with torch.cuda.device(first.device) if first.is_cuda else nullcontext():
                return function(*arguments)

        return torch.library.custom_op(name, launching, mutates_args=())

    return decorate


def cast_under_autocast(op: CustomOpDef, *matrices: str) -> None:
    """Under autocast the arguments `matrices` are taken in autocast's dtype, the others (residual
    stream, norms, biases) as they come.
    """
    schema = op._opoverload._schema
    cast = [argument.name in matrices for argument in schema.arguments]

    def rule(device: str) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            dtype = torch.get_autocast_dtype(device)
            taken = [
                value.to(dtype) if matrix and value.dtype != torch.float64 else value
                for value, matrix in zip(arguments, cast, strict=False)
            ]
            with torch.autocast(device, enabled=False):
                return op(*taken)

        return run

    name = schema.name.split("::")[1]
    _LIBRARY.impl(name, rule("cuda"), "AutocastCUDA")
    _LIBRARY.impl(name, rule("cpu"), "AutocastCPU")


def count_flops(op: CustomOpDef, formula: Callable[..., int]) -> None:
    """`formula(*arguments)` of the op's arguments: what FlopCounterMode adds, 2 for each multiply
    and add.
    """

    def count(*arguments: Any, out_val: Any = None, **_named: Any) -> int:
        return formula(*arguments)

    register_flop_formula(op._opoverload.overloadpacket, get_raw=True)(count)


def differentiate(
    backward: CustomOpDef, wanted: Sequence[bool], grad: Tensor | None, *arguments: Any
) -> list[Tensor | None]:
    """Gradients by a backward op, which is told last which are `wanted`; None for the others, and
    for all where nothing came (grad None).
    """
    if grad is None or not any(wanted):
        return [None] * len(wanted)
    found = backward(grad, *arguments, list(wanted))
    return [g if is_wanted else None for g, is_wanted in zip(found, wanted, strict=True)]


def empty_gradients(
    inputs: Sequence[Tensor], wanted: Sequence[bool], grad: Tensor
) -> tuple[Tensor, ...]:
    """What a backward op allocates: gradients like the inputs, and empty ones (0,) where they are
    not wanted.
    """
    return tuple(
        torch.empty_like(v, memory_format=torch.contiguous_format)
        if is_wanted
        else grad.new_empty(0)
        for v, is_wanted in zip(inputs, wanted, strict=True)
    )
