"""What the machine at hand can do: device, precision, threads, memory."""

import ctypes
import os
import platform
import re
from pathlib import Path

import torch

from slim_fast.errors import UserError
from slim_fast.model.encoder import check_kernels

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_KEPT = 32 << 20  # glibc takes no higher threshold


def choose_device(name: str) -> torch.device:
    """The device of a name, "auto": CUDA if available; of a process that torchrun started, its own
    one. Raises: UserError when it is not.
    """
    check_kernels()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and (own := os.environ.get("LOCAL_RANK")):
        name = f"cuda:{own}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device={name!r} is not a device; use auto, cpu or cuda.") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device={name!r} is not supported; use auto, cpu or cuda.")
    if device.type == "cuda" and (
        not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()
    ):
        raise UserError(
            f"device={name!r}, but this machine offers {torch.cuda.device_count()} CUDA devices; "
            "use --device cpu."
        )
    return device


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """float32 or bfloat16 for "fp32", "bf16" or "auto", which is bf16 where it is native."""
    if precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        flags = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        native = any(getattr(torch.cpu, flag, lambda: False)() for flag in flags)
    return torch.bfloat16 if native else torch.float32


def cpu_model() -> str:
    """The processor's name as its maker gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory: every step allocates the same large tensors again.

    Without this each large temporary is mapped and zeroed anew by the kernel, which costs more than
    most operations on it. Returns whether it was done (Linux with glibc only). Concerns the whole
    process.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)) and bool(
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    )
