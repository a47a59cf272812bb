"""Keyword arguments under other names."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def accept_aliases(**others: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function take keyword arguments under other names, `others`: name -> its own name."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for other in others.keys() & kwargs.keys():
                if others[other] in kwargs:
                    raise TypeError(
                        f"{function.__name__}() got {other} and {others[other]}, which are one "
                        "argument"
                    )
                kwargs[others[other]] = kwargs.pop(other)
            return function(*args, **kwargs)

        return call

    return decorate
