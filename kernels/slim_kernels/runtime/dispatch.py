"""Which implementation an operation takes: the Triton kernels or PyTorch's operations."""

import importlib.util
import os
import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from slim_kernels.runtime.target import capability, runs_on_gpu

VARIABLE = "SLIM_KERNELS"
TRITON_INSTALLED = importlib.util.find_spec("triton") is not None


def kernel_choice() -> str:
    """What SLIM_KERNELS says: auto (unset), reference or triton.

    Raises: ValueError for another value, or when triton is demanded and not installed.
    """
    choice = os.environ.get(VARIABLE) or "auto"
    if choice not in ("auto", "reference", "triton"):
        raise ValueError(
            f"{VARIABLE}={choice!r} is not known; set it to reference or triton, or unset it"
        )
    if choice == "triton" and not TRITON_INSTALLED:
        raise ValueError(
            f"{VARIABLE}=triton, but triton is not installed; install it or unset the variable"
        )
    return choice


def uses_triton(operation: str, x: Tensor, dtype: torch.dtype, obstacle: str = "") -> bool:
    """Whether `operation` on x's device, with matrix products in `dtype`, takes its Triton kernels.

    They run on CUDA tensors (compute capability 8.0 and newer) in bfloat16 and float16; under
    TRITON_INTERPRET=1 on CPU tensors too, in float16, float32 and float64, and while an
    `emulated_target` is open on CPU tensors as on CUDA's. SLIM_KERNELS=reference
    takes PyTorch's operations everywhere, SLIM_KERNELS=triton demands that triton is installed.
    obstacle: why the kernels can't take these arguments, or ""; then, and for other dtypes,
    PyTorch's operations run, with one warning.
    Raises: ValueError as `kernel_choice`.
    """
    choice = kernel_choice()
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    on_gpu = runs_on_gpu(x)
    runs = on_gpu or (interpreted and x.device.type == "cpu")
    if choice == "reference" or not runs or not TRITON_INSTALLED:
        return False
    # The interpreter computes bfloat16 wrongly; on a GPU float32 products would need other tiles.
    known = (
        (torch.float16, torch.float32, torch.float64)
        if interpreted and not on_gpu
        else (torch.float16, torch.bfloat16)
    )
    if dtype not in known:
        obstacle = f"{dtype} products on {x.device.type}"
    elif on_gpu and capability(x.device) < 80:
        obstacle = "devices before compute capability 8.0"
    if obstacle and not torch.compiler.is_compiling():  # no compiler traces a warning
        warn_once(
            f"{operation} has no Triton kernel for {obstacle}; PyTorch's operations run instead"
        )
    return not obstacle


def product_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which x is multiplied by weights: autocast's where it is on, which leaves
    float64 alone.
    """
    device = x.device.type
    return (
        torch.get_autocast_dtype(device)
        if _autocast(device) and x.dtype != torch.float64
        else x.dtype
    )


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Operations on x's device as they are written."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if _autocast(device) else nullcontext()


def _autocast(device: str) -> bool:
    # "meta" knows of none
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


@lru_cache
def warn_once(sentence: str) -> None:
    """Say why an operation falls back to the reference, the first time."""
    warnings.warn(sentence, stacklevel=3)


def obstacle_of_width(width: int) -> str:
    """Why the Triton kernels, which hold whole rows, can't take rows of `width` features, or ""."""
    return f"rows of {width} features, more than 256" if width > 256 else ""


def is_gradient_free(*tensors: Tensor) -> bool:
    """Whether no gradient of these will be wanted, neither backward nor forward mode."""
    forward_mode = torch.autograd.forward_ad._current_level >= 0
    return not (forward_mode or (torch.is_grad_enabled() and any(x.requires_grad for x in tensors)))
