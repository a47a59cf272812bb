"""Small tensors that are asked for again and again are made once."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch._guards import detect_fake_mode

P = ParamSpec("P")
R = TypeVar("R")


def kept(size: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keep the last `size` results of a function of hashable arguments.

    Whoever asks next may train, or run for real: results are never inference tensors, nor a tracer's or data-less ones.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        results: dict[Any, R] = {}

        @wraps(function)
        def call(*arguments: P.args, **named: P.kwargs) -> R:
            if torch.compiler.is_compiling() or detect_fake_mode() is not None:
                return function(*arguments, **named)
            key = (arguments, tuple(named.items()))
            if key not in results:
                with torch.inference_mode(False):
                    made = function(*arguments, **named)
                if len(results) >= size:
                    results.pop(next(iter(results)))
                results[key] = made
            return results[key]

        return call

    return decorate
