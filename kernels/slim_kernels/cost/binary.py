"""The binary of a kernel that the emulator ran: registers, spills and instructions of each loop."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend

from slim_kernels.cost.pipes import sass_pipe
from slim_kernels.cost.regions import find_loops
from slim_kernels.runtime.launch import COMPILED_WITH

_LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*)", re.M)


@dataclass(frozen=True)
class Binary:
    """What ptxas made of a kernel."""

    registers: int
    spilled: int
    """Bytes of a thread."""
    outside: Counter[str]
    """Instructions outside all loops, by pipe."""
    loops: tuple[Counter[str], ...]
    """Instructions of each loop's body by pipe, those of an inner loop left out; in the order in
    which loops begin.
    """


def assemble(kernel: Any) -> Binary:
    """Triton's own call of ptxas on the PTX of a compiled kernel."""
    options = (kernel.metadata.num_warps, kernel.metadata.num_stages)
    return _assemble(bytes(kernel.asm["ptx"]).decode(), kernel.metadata.target.arch, *options)


@lru_cache
def _assemble(ptx: str, capability: int, warps: int, stages: int) -> Binary:
    backend = CUDABackend(GPUTarget("cuda", capability, 32))
    options = backend.parse_options({"num_warps": warps, "num_stages": stages, **COMPILED_WITH})
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(backend.make_cubin(ptx, {}, options, capability))
        file.flush()
        usage, listing = (
            subprocess.run([tool, option, file.name], capture_output=True, text=True, check=True)
            for option in ("-res-usage", "-sass")
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage.stdout)
    if found is None:
        raise RuntimeError(f"cuobjdump names no registers: {usage.stdout}")
    return read_sass(listing.stdout, int(found[1]), int(found[2]))


def read_sass(listing: str, registers: int = 0, spilled: int = 0) -> Binary:
    """Loops of what `cuobjdump -sass` prints for one kernel: from the target of a backward branch
    to the branch.
    """
    lines = [(int(a, 16), opcode, rest) for a, opcode, rest in _LINE.findall(listing)]
    back = []
    for address, opcode, rest in lines:
        target = re.search(r"0x([0-9a-f]+)", rest) if opcode.startswith("BRA") else None
        # a branch to itself ends a program
        if target is not None and int(target[1], 16) < address:
            back.append((int(target[1], 16), address))
    spans = find_loops(back)
    loops: dict[int, Counter[str]] = {begin: Counter() for begin in spans}
    outside: Counter[str] = Counter()
    for address, opcode, _ in lines:
        if opcode == "NOP":  # fills the end
            continue
        around = [begin for begin, end in spans.items() if begin <= address <= end]
        (loops[max(around)] if around else outside)[sass_pipe(opcode)] += 1
    return Binary(registers, spilled, outside, tuple(loops.values()))
