"""Small tensors that are asked for again and again are made once."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils._python_dispatch import _get_current_dispatch_mode

P = ParamSpec("P")
R = TypeVar("R")


def kept(size: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keep the last `size` results of a function of hashable arguments.

    Tensors among the arguments count as the same while they are the same objects, unchanged; don't give it weights,
    which may be changed behind their version's back. Whoever asks next may train, or run for real: results are never
    inference tensors, nor a tracer's or data-less ones.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        results: dict[Any, tuple[Any, R]] = {}  # with the arguments, so that no other object takes their identity

        @wraps(function)
        def call(*arguments: P.args, **named: P.kwargs) -> R:
            given = (*arguments, *named.items())
            if torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None or not all(map(_plain, given)):
                return function(*arguments, **named)
            key = tuple((id(x), x._version) if isinstance(x, Tensor) else x for x in given)
            if key not in results:
                with torch.inference_mode(False):
                    made = function(*arguments, **named)
                if len(results) >= size:
                    results.pop(next(iter(results)))
                results[key] = given, made
            return results[key][1]

        return call

    return decorate


def _plain(x: Any) -> bool:
    """Whether it is no tensor, or one whose contents are there and whose changes are counted."""
    return not isinstance(x, Tensor) or (type(x) in (Tensor, Parameter) and not x.is_inference())
