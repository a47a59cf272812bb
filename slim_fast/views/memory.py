"""Where the clips' positions are kept: on a device, in host memory, or on disk."""

import os
import warnings
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError

Memory = Literal["auto", "device", "host", "mapped"]
Dtype = Literal["fp32", "fp16"]
# Of the memory that is free before a model is made, which clips may take by themselves.
_GPU_SHARE, _HOST_SHARE = 0.25, 0.5
_COPIED_ROWS = 1 << 16


def mapped_positions(cache: ClipCache) -> Tensor:
    """The cache's positions (rows, V, C) as a tensor on the mapped file; not to be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(cache.positions))


def place_positions(cache: ClipCache, device: torch.device, memory: Memory, dtype: Dtype) -> Tensor:
    """The cache's positions (rows, V, C) where a run wants them.

    memory: auto takes a quarter of a GPU's free memory at most, then half of the host's, else the
    mapped file; on a CPU the mapped file, which the system keeps in memory while it can.
    dtype: fp16 rounds to 11 bits; a mapped file is float32.
    Raises: UserError for float16 of a mapped file or of coordinates beyond its range, and where
    there is no room.
    """
    mapped = mapped_positions(cache)
    size = mapped.numel() * (2 if dtype == "fp16" else 4)
    if memory == "auto":
        memory = _choose(size, device, dtype)
    if memory == "mapped":
        if dtype == "fp16":
            raise UserError(
                "data_dtype=fp16 needs data_memory=device or host: a file is mapped as it is."
            )
        return mapped
    target = device if memory == "device" else torch.device("cpu")
    try:
        placed = torch.empty(
            mapped.shape,
            dtype=torch.float16 if dtype == "fp16" else torch.float32,
            device=target,
            pin_memory=target.type == "cpu" and device.type == "cuda",
        )
    except (RuntimeError, MemoryError) as error:
        raise UserError(
            f"data_memory={memory} has no room for the {size / 2**30:.1f} GiB of the clips in "
            f"{cache.path}; leave it out, or choose mapped."
        ) from error
    for begin in range(0, len(mapped), _COPIED_ROWS):
        part = placed[begin : begin + _COPIED_ROWS]
        part.copy_(mapped[begin : begin + _COPIED_ROWS])
        if dtype == "fp16" and bool(part.isinf().any()):
            raise UserError(
                f"data_dtype=fp16 holds coordinates up to 65504, and {cache.path} has larger ones; "
                "choose fp32."
            )
    return placed


def _choose(size: int, device: torch.device, dtype: Dtype) -> Memory:
    if device.type == "cpu":
        return "mapped" if dtype == "fp32" else "host"
    if device.type == "cuda" and size <= _GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
        return "device"
    return "host" if size <= _HOST_SHARE * _free_host_memory() else "mapped"


def _free_host_memory() -> int:
    """Bytes that the system can give away; 0 where it does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0
