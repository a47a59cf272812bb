"""Run a compiled kernel on the host's memory."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ptx_emulator.findings import EmulationError, Finding, Findings
from ptx_emulator.global_memory import GlobalMemory, Tensor
from ptx_emulator.instructions import steps
from ptx_emulator.machine import Job, Machine
from ptx_emulator.parser import (
    Address,
    Operand,
    Program,
    PTXError,
    Register,
    Symbol,
    Vector,
    parse,
)
from ptx_emulator.traffic import Traffic

# Threads that run in step: numpy's calls cost little beside arrays of this length, which together
# still fit into a core's second-level cache.
_THREADS = 1 << 13


@dataclass(frozen=True)
class Report:
    """What one launch did."""

    program: Program
    grid: tuple[int, int, int]
    threads: int
    findings: list[Finding]
    traffic: Traffic


def launch(
    ptx: str,
    grid: tuple[int, int, int],
    threads: int,
    arguments: list[int | float],
    tensors: list[Tensor],
    shared: int = 0,
    detailed: bool = False,
    strict: bool = True,
) -> Report:
    """Run the kernel of `ptx` on tensors in the host's memory, which it changes.

    threads: of a block; arguments: the parameters in order, pointers as addresses; shared: bytes of
    dynamic shared memory; detailed: also count sectors and bank conflicts; strict: raise where
    something was found.
    Raises:
        EmulationError: the launch has findings (and `strict`).
        PTXError: an instruction that is not known; the message names it.
    """
    program = parse(ptx)
    if len(arguments) != len(program.parameters):
        raise PTXError(
            f"{program.name} has {len(program.parameters)} parameters; {len(arguments)} were given."
        )
    if threads % 32:
        raise PTXError(f"A block of {threads} threads is not made of whole warps.")
    packed = _pack(program, arguments)
    names = list(program.parameters)
    written = written_parameters(program)
    chosen = None
    if written is not None:
        addresses = {int(a) for n, a in zip(names, arguments, strict=True) if n in written}
        chosen = {i for i, t in enumerate(tensors) if t.address in addresses}
    memory = GlobalMemory(tensors, chosen)
    findings, traffic = Findings(program.name), Traffic(program, detailed)
    shared += program.static_shared
    job = Job(program, steps(program), grid, threads, packed, memory, shared, findings, traffic)
    total, at_once = math.prod(grid), max(1, _THREADS // threads)
    with np.errstate(all="ignore"):
        for first in range(0, total, at_once):
            machines = [Machine(job, np.arange(first, min(first + at_once, total)))]
            while machines:
                machines += machines.pop().run()
    found = list(findings.found.values())
    if found and strict:
        raise EmulationError(found)
    return Report(program, grid, threads, found, traffic)


def _pack(program: Program, arguments: list[int | float]) -> bytes:
    packed = bytearray(max((o + s for o, s in program.parameters.values()), default=0))
    for (offset, size), value in zip(program.parameters.values(), arguments, strict=True):
        if isinstance(value, float):
            packed[offset : offset + size] = struct.pack("<f" if size == 4 else "<d", value)
        else:
            packed[offset : offset + size] = (int(value) & (2 ** (8 * size) - 1)).to_bytes(
                size, "little"
            )
    return bytes(packed)


@lru_cache(maxsize=256)
def written_parameters(program: Program) -> set[str] | None:
    """The parameters from which an address that is written is computed; None: one is not known."""
    origins: dict[int, set[str]] = {}
    changed = True
    while changed:
        changed = False
        for instruction in program.instructions:
            if not instruction.operands or instruction.name in ("st", "red", "bra"):
                continue
            result, *sources = instruction.operands
            if instruction.name == "ld":
                base = sources[0].base if isinstance(sources[0], Address) else None
                is_parameter = "param" in instruction.modifiers and isinstance(base, Symbol)
                found = {base.name} if is_parameter and isinstance(base, Symbol) else set()
            else:
                found = set().union(*(origins.get(slot, set()) for slot in _slots(*sources)))
            for slot in _slots(result):
                known = origins.setdefault(slot, set())
                changed |= not found <= known
                known |= found
    written: set[str] = set()
    for instruction in program.instructions:
        if instruction.name in ("st", "red", "atom") and "shared" not in instruction.modifiers:
            address = instruction.operands[1 if instruction.name == "atom" else 0]
            found = set().union(*(origins.get(slot, set()) for slot in _slots(address)))
            if not found:
                return None
            written |= found
    return written


def _slots(*operands: Operand) -> set[int]:
    slots: set[int] = set()
    for operand in operands:
        if isinstance(operand, Register):
            slots.add(operand.slot)
        elif isinstance(operand, Vector):
            slots |= _slots(*operand.parts)
        elif isinstance(operand, Address):
            slots |= _slots(operand.base)
    return slots
