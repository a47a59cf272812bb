"""The GPU for which kernels are launched: the one a tensor lies on, or one that is emulated."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

_emulated: int | None = None


def _wide_product(x: Tensor, y: Tensor, out_dtype: torch.dtype) -> Tensor:
    return torch.mm(x.to(out_dtype), y.to(out_dtype))


@lru_cache
def _add_wide_product() -> torch.library.Library | None:
    """Give CPU tensors a GPU's product that is summed in a wider dtype, where PyTorch has none; it
    lasts as long as what is returned, which the cache keeps.
    """
    if torch._C._dispatch_has_kernel_for_dispatch_key("aten::mm.dtype", "CPU"):
        return None
    library = torch.library.Library("aten", "IMPL")
    library.impl("mm.dtype", _wide_product, "CPU")
    return library


@contextmanager
def emulated_target(capability: int) -> Iterator[None]:
    """While it is open, operations on CPU tensors launch the Triton kernels of a GPU of that
    compute capability (90 for 9.0), bfloat16 included. Triton must have a driver that runs them.
    """
    global _emulated
    _add_wide_product()
    before, _emulated = _emulated, capability
    try:
        yield
    finally:
        _emulated = before


def is_emulated() -> bool:
    """Whether an `emulated_target` is open."""
    return _emulated is not None


def runs_on_gpu(x: Tensor) -> bool:
    """Whether Triton's kernels of x run as on a GPU, and not in Triton's interpreter."""
    return x.device.type == "cuda" or (x.device.type == "cpu" and is_emulated())


def capability(device: torch.device) -> int:
    """The compute capability of a device on which `runs_on_gpu`, 90 for 9.0."""
    return _emulated if _emulated is not None and device.type == "cpu" else _of_device(device)


@lru_cache
def _of_device(device: torch.device) -> int:
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
