"""Registries of optional packages, in which adapters register themselves."""

import warnings
from importlib import import_module
from typing import Any


def find_registry(module: str, name: str) -> Any:
    """`name` of an optional package's `module`; None where the package is not installed.

    Also None, with a warning, where something else has the package's name, such as a folder in the
    working directory. Other import errors are raised.
    """
    package = module.split(".")[0]
    try:
        found = getattr(import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name == package:
            return None
        if not error.name or not f"{module}.".startswith(f"{error.name}."):
            raise
        found = None
    if found is None:
        path = next(iter(getattr(import_module(package), "__path__", [])), "?")
        warnings.warn(
            f"{path} has no {module}.{name}: it is not {package}, and nothing is registered.",
            stacklevel=2,
        )
    return found
