"""A cache for functions whose results are small tensors, which are computed once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

P = ParamSpec("P")
R = TypeVar("R")
_holder = threading.local()


@contextmanager
def retain_results() -> Iterator[list[Any]]:
    """Gives a list that collects what cached functions return to this thread inside the block.

    A captured CUDA graph reads it where it lies, so it must live as long as the graph, whatever
    the cache drops since.
    """
    before, _holder.results = getattr(_holder, "results", None), []
    try:
        yield _holder.results
    finally:
        _holder.results = before


def cached_tensors(size: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Cache the last `size` results of a function of hashable arguments and of tensors on the CPU,
    small ones: they count as the same while they hold the same.

    The next caller may train, or run on real tensors: results are never inference tensors, nor a
    tracer's or data-less ones.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        results: dict[Any, tuple[list[Tensor], R]] = {}  # with copies of the tensors
        lock = threading.Lock()

        @wraps(function)
        def call(*arguments: P.args, **named: P.kwargs) -> R:
            given = (*arguments, *named.items())
            if (
                torch.compiler.is_compiling()
                or _get_current_dispatch_mode() is not None
                or not all(map(_plain, given))
            ):
                return function(*arguments, **named)
            tensors = [x for x in given if isinstance(x, Tensor)]
            key = tuple((id(x), x.dtype, x.shape) if isinstance(x, Tensor) else x for x in given)
            found = results.get(key)
            if found is None or not all(map(torch.equal, tensors, found[0])):
                with torch.inference_mode(False):
                    made = function(*arguments, **named)
                    found = [x.clone() for x in tensors], made
                with lock:
                    results.pop(key, None)
                    while len(results) >= size:
                        results.pop(next(iter(results)))
                    results[key] = found
            if (held := getattr(_holder, "results", None)) is not None:
                held.append(found[1])
            return found[1]

        return call

    return decorate


def _plain(x: Any) -> bool:
    """Whether it is no tensor, or a plain one on the CPU, with data."""
    return not isinstance(x, Tensor) or (type(x) is Tensor and x.device.type == "cpu")
