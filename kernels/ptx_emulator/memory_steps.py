"""Loads, stores and atomic operations."""

from collections.abc import Callable

import numpy as np

from ptx_emulator.accesses import (
    address_of,
    global_parts,
    read_global,
    read_shared,
    report_global,
    write_shared,
)
from ptx_emulator.formats import UNSIGNED, Array, as_bits, dtype
from ptx_emulator.machine import Builder, Machine, Step
from ptx_emulator.parser import (
    Address,
    Instruction,
    Operand,
    PTXError,
    Symbol,
    Vector,
    bits,
)

# hints for caches and the scope of an access, which change no value here
_HINTS = {"L1", "L2", "cache_hint", "evict_last", "evict_first", "evict_normal", "no_allocate"}
_HINTS |= {"nc", "global", "shared", "cta", "v2", "v4", "v8", "param", "volatile", "relaxed", "gpu"}
_HINTS |= {"evict_unchanged", "acquire", "release", "sys", "64B", "128B", "256B"}


def _check_words(instruction: Instruction, *known: str) -> None:
    for word in instruction.modifiers[:-1]:
        if word not in _HINTS and word not in known:
            raise PTXError(f"The emulator does not know .{word} of {instruction.text!r}.")


def _load(instruction: Instruction) -> Step:
    _check_words(instruction)
    result, address, *_ = instruction.operands
    kind = instruction.kind
    if "param" in instruction.modifiers:
        return _load_parameter(instruction)
    parts = result.parts if isinstance(result, Vector) else (result,)
    size = bits(kind) // 8 * len(parts)
    is_shared = "shared" in instruction.modifiers

    def step(m: Machine) -> None:
        if is_shared:
            values = read_shared(m, address_of(m, address, "u32"), size)
            columns = values.view(dtype(kind))
            for number, part in enumerate(parts):
                m.put(part, np.ascontiguousarray(columns[..., number]))
            return
        lanes = m.lanes()
        addresses = m.flat(address_of(m, address, "u64"), lanes)
        columns = read_global(m, addresses, lanes, size).view(dtype(kind))
        for number, part in enumerate(parts):
            m.put(part, m.spread(np.ascontiguousarray(columns[:, number]), lanes))

    return step


def _load_parameter(instruction: Instruction) -> Step:
    result, address = instruction.operands
    kind = instruction.kind
    if not isinstance(address, Address) or not isinstance(address.base, Symbol):
        raise PTXError(f"The emulator does not know {instruction.text!r}.")
    name, shift = address.base.name, address.offset

    def step(m: Machine) -> None:
        start = m.program.parameters[name][0] + shift
        raw = m.job.arguments[start : start + bits(kind) // 8]
        m.put(result, np.frombuffer(raw, dtype(kind)).reshape(1, 1))

    return step


def _columns(m: Machine, operand: Operand, kind: str) -> list[Array]:
    parts = operand.parts if isinstance(operand, Vector) else (operand,)
    return [as_bits(m.get(part, kind), bits(kind)) for part in parts]


def _store(instruction: Instruction) -> Step:
    _check_words(instruction)
    address, value, *_ = instruction.operands
    kind = instruction.kind
    is_shared = "shared" in instruction.modifiers

    def step(m: Machine) -> None:
        columns = _columns(m, value, kind)
        if is_shared:
            write_shared(m, address_of(m, address, "u32"), columns)
            return
        lanes = m.lanes()
        addresses = m.flat(address_of(m, address, "u64"), lanes)
        values = np.stack([m.flat(column, lanes) for column in columns], -1).view(np.uint8)
        size = values.shape[-1]
        for number, chosen in global_parts(m, addresses, lanes, size, write=True):
            if chosen is None:
                m.memory.store(number, addresses, values)
            else:
                m.memory.store(number, addresses[chosen], values[chosen])

    return step


_ATOMIC: dict[str, Callable[[int | float, int | float], int | float]] = {
    "add": lambda old, new: old + new,
    "max": max,
    "min": min,
    "exch": lambda _, new: new,
    "and": lambda old, new: int(old) & int(new),
    "or": lambda old, new: int(old) | int(new),
}


def _atomic(instruction: Instruction) -> Step:
    """atom and red in global memory, one thread after the other."""
    name, kind = instruction.modifiers[-2], instruction.kind
    if name not in (*_ATOMIC, "cas") or "shared" in instruction.modifiers or kind[-2:] == "x2":
        raise PTXError(f"The emulator does not know {instruction.text!r}.")
    *result, address, value = instruction.operands[: 3 if instruction.name == "atom" else 2]
    last = instruction.operands[3] if name == "cas" else None
    size = bits(kind) // 8

    def step(m: Machine) -> None:
        lanes = m.lanes()
        addresses = m.flat(address_of(m, address, "u64"), lanes)
        operands = [m.flat(m.get(o, kind), lanes) for o in (value, last) if o is not None]
        old = np.zeros(len(addresses), dtype(kind))
        located = m.memory.locate(addresses, size)
        if (located < 0).any():
            report_global(m, "out of bounds", addresses, lanes, located < 0)
        for n in np.flatnonzero(located >= 0):
            place = addresses[n : n + 1]
            before = m.memory.load(int(located[n]), place, size).view(dtype(kind))[0, 0]
            old[n] = before
            if last is not None:
                after = operands[1][n] if before == operands[0][n] else before
            else:
                after = _ATOMIC[name](before, operands[0][n])
            raw = np.array([[after]]).astype(dtype(kind)).view(np.uint8)
            m.memory.store(int(located[n]), place, raw)
        if result:
            m.put(result[0], m.spread(old, lanes))

    return step


BUILDERS: dict[str, Builder] = {
    "ld": _load,
    "st": _store,
    "atom": _atomic,
    "red": _atomic,
    "prefetch": lambda i: lambda m: None,
    "discard": lambda i: lambda m: None,
    # the value of a cache policy is never used
    "createpolicy": lambda i: lambda m: m.put(i.operands[0], np.zeros((1, 1), UNSIGNED[64])),
}
