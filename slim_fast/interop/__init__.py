"""The encoder for other code bases: one module for each, `slim_fast.interop.<code base>`."""

from typing import Any

_ADAPTERS = ("ctrgcn", "mamp", "mmaction2", "pyskl", "skateformer", "timm")


def __getattr__(name: str) -> Any:
    """Import adapters on first use: MAMP's trainer looks dotted names up from the top package."""
    if name not in _ADAPTERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return import_module(f"{__name__}.{name}")
