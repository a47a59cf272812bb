"""Which implementation an operation takes: PyTorch's (the reference) or the Triton kernels."""

import importlib.util
import os
import warnings
from functools import lru_cache

from torch import Tensor

VARIABLE = "SLIM_KERNELS"


def triton_wanted(x: Tensor) -> bool:
    """Whether SLIM_KERNELS=triton asks for the Triton kernels and x is where they run.

    They run on CUDA tensors, and on the CPU under TRITON_INTERPRET=1. Unset, or SLIM_KERNELS=reference: PyTorch's
    operations, until the kernels' figures from a GPU are on record.
    Raises: ValueError for another value, or when triton is asked for and not installed.
    """
    choice = os.environ.get(VARIABLE) or "reference"
    if choice == "reference":
        return False
    if choice != "triton":
        raise ValueError(f"{VARIABLE}={choice!r} is not known; set it to reference or triton")
    if not _triton_installed():
        raise ValueError(f"{VARIABLE}=triton, but triton is not installed; install it or unset the variable")
    return x.device.type == "cuda" or (x.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1")


@lru_cache
def _triton_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


@lru_cache
def warn_once(sentence: str) -> None:
    """Say why an operation falls back to the reference, the first time."""
    warnings.warn(sentence, stacklevel=3)
