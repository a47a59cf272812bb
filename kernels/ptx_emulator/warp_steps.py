"""Instructions of whole warps: exchange, reduction, votes, and 8 x 8 matrices in shared memory."""

from collections.abc import Callable

import numpy as np

from ptx_emulator.accesses import address_of, place, report_shared
from ptx_emulator.formats import Array, as_bits, dtype
from ptx_emulator.machine import Builder, Machine, Step
from ptx_emulator.parser import Instruction, PTXError, Symbol, Vector
from ptx_emulator.shared_memory import Access

LANE = np.arange(32)


def whole_warps(m: Machine, group: int = 32) -> None:
    """Note a finding where a part of a warp (of a `group` of threads) is active."""
    if m.mask is None:
        return
    active = np.broadcast_to(m.mask, (len(m.blocks), m.threads)).reshape(-1, group)
    broken = active.any(1) & ~active.all(1)
    if broken.any():
        lane = int(np.flatnonzero(broken)[0]) * group
        m.report("warp", lane % m.threads, lane // m.threads, "a thread that is elsewhere")


def by_warp(m: Machine, value: Array) -> Array:
    """(1 or blocks, warps, 32)"""
    if value.shape[1] != m.threads:
        value = np.broadcast_to(value, (len(value), m.threads))
    return value.reshape(len(value), -1, 32)


def _shuffle(instruction: Instruction) -> Step:
    mode = instruction.modifiers[1] if len(instruction.modifiers) > 1 else ""
    if instruction.modifiers[0] != "sync" or mode not in ("bfly", "idx", "up", "down"):
        raise PTXError(f"The emulator does not know {instruction.text!r}.")
    result, *rest = instruction.operands
    is_inside = rest.pop(0) if len(rest) == 5 else None
    value, by, clamp, _ = rest

    def step(m: Machine) -> None:
        whole_warps(m)
        values = by_warp(m, m.get(value, "b32"))
        amount = by_warp(m, m.get(by, "u32")).astype(np.int64)
        limit = by_warp(m, m.get(clamp, "u32")).astype(np.int64)
        # the clamp's upper bits part the warp into segments
        segment = (limit >> 8) & 31
        first = LANE & segment
        last = first | (limit & 31 & ~segment)
        if mode == "bfly":
            other = LANE ^ amount
        elif mode == "idx":
            other = first | (amount & 31 & ~segment)
        else:
            other = LANE - amount if mode == "up" else LANE + amount
        inside = other >= last if mode == "up" else other <= last
        other = np.where(inside, other, LANE) & 31
        shape = np.broadcast_shapes(values.shape, other.shape)
        taken = np.take_along_axis(
            np.broadcast_to(values, shape), np.broadcast_to(other, shape), -1
        )
        m.put(result, taken.reshape(shape[0], -1))
        if is_inside is not None:
            m.put(is_inside, np.broadcast_to(inside, shape).reshape(shape[0], -1))

    return step


_REDUCTIONS: dict[str, Callable[..., Array]] = {
    "add": np.add.reduce,
    "min": np.minimum.reduce,
    "max": np.maximum.reduce,
    "and": np.bitwise_and.reduce,
    "or": np.bitwise_or.reduce,
    "xor": np.bitwise_xor.reduce,
}


def _reduce(instruction: Instruction) -> Step:
    name, kind = instruction.modifiers[1], instruction.kind
    if name not in _REDUCTIONS or kind == "f32":
        raise PTXError(f"The emulator does not know {instruction.text!r}.")
    result, value, _ = instruction.operands

    def step(m: Machine) -> None:
        whole_warps(m)
        values = by_warp(m, m.get(value, kind))
        total = _REDUCTIONS[name](values, axis=-1, keepdims=True).astype(values.dtype)
        m.put(result, np.broadcast_to(total, values.shape).reshape(len(values), -1))

    return step


def _vote(instruction: Instruction) -> Step:
    mode = instruction.modifiers[1]
    if mode not in ("ballot", "any", "all"):
        raise PTXError(f"The emulator does not know {instruction.text!r}.")
    result, value, _ = instruction.operands

    def step(m: Machine) -> None:
        whole_warps(m)
        values = by_warp(m, m.get(value, "pred"))
        if mode == "ballot":
            bits: Array = values.astype(np.uint32) << LANE.astype(np.uint32)
            total = np.bitwise_or.reduce(bits, axis=-1, keepdims=True)
        else:
            total = np.asarray((values.any if mode == "any" else values.all)(-1, keepdims=True))
        m.put(result, np.broadcast_to(total, values.shape).reshape(len(values), -1))

    return step


def _elect(instruction: Instruction) -> Step:
    result, elected, _ = instruction.operands

    def step(m: Machine) -> None:
        whole_warps(m)
        if not isinstance(result, Symbol):
            m.put(result, np.zeros((1, 1), np.uint32))
        m.put(elected, np.broadcast_to(LANE == 0, (m.threads // 32, 32)).reshape(1, -1))

    return step


def _rows_access(m: Machine, rows: Array, count: int) -> tuple[Access, Array | None]:
    """The 16-byte rows of `count` matrices, whose addresses threads 0 to 8 count - 1 of each warp
    hold, and the threads (None: all of all blocks).
    """
    before = m.mask
    if count < 4:
        named = np.broadcast_to(8 * count > LANE, (m.threads // 32, 32)).reshape(1, -1)
        m.mask = named if before is None else before & named
    access, lanes, _ = place(m, rows, 16)
    m.mask = before
    return access, lanes


def _transposed(words: Array) -> Array:
    """Each warp's 8 x 8 matrix of 16-bit elements, (..., 32) words of two in a row, transposed."""
    elements = np.ascontiguousarray(words).view(np.uint16).reshape(*words.shape[:-1], 8, 8)
    turned = np.ascontiguousarray(elements.swapaxes(-1, -2))
    return turned.reshape(*words.shape[:-1], 64).view(np.uint32)


def _is_transposed(instruction: Instruction) -> bool:
    """Whether ldmatrix or stmatrix transposes. Raises: PTXError for matrices of another kind."""
    if "m8n8" not in instruction.modifiers or instruction.kind != "b16":
        raise PTXError(f"The emulator does not know {instruction.text!r}.")
    return "trans" in instruction.modifiers


def _load_matrices(instruction: Instruction) -> Step:
    transposed = _is_transposed(instruction)
    result, address = instruction.operands
    parts = result.parts if isinstance(result, Vector) else (result,)

    def step(m: Machine) -> None:
        whole_warps(m)
        rows = address_of(m, address, "u32")
        m.traffic.note_matrices(m, rows, len(parts))
        access, lanes = _rows_access(m, rows, len(parts))
        report_shared(m, access, m.shared.note_read(access))
        loaded = m.shared.load(access)
        if access.rows is not None:
            whole = np.zeros((len(m.blocks) * m.threads, 16), np.uint8)
            whole[slice(None) if lanes is None else lanes] = loaded
            loaded = whole
        # (blocks, warps, matrices, 32 words)
        matrices = loaded.view(np.uint32).reshape(len(m.blocks), -1, 4, 32)
        for number, part in enumerate(parts):
            value = np.ascontiguousarray(matrices[:, :, number])
            value = _transposed(value) if transposed else value
            m.put(part, value.reshape(len(value), -1))

    return step


def _store_matrices(instruction: Instruction) -> Step:
    transposed = _is_transposed(instruction)
    address, value = instruction.operands
    parts = value.parts if isinstance(value, Vector) else (value,)

    def step(m: Machine) -> None:
        whole_warps(m)
        rows = address_of(m, address, "u32")
        m.traffic.note_matrices(m, rows, len(parts))
        shape = (len(m.blocks), m.threads)
        matrices = np.zeros((len(m.blocks), m.threads // 32, 4, 32), np.uint32)
        for number, part in enumerate(parts):
            value = by_warp(m, np.broadcast_to(as_bits(m.get(part, "b32"), 32), shape))
            matrices[:, :, number] = _transposed(value) if transposed else value
        access, lanes = _rows_access(m, rows, len(parts))
        values: Array = matrices.reshape(*shape, 4).view(np.uint8)
        if access.rows is not None:
            values = values.reshape(-1, 16)
            values = values if lanes is None else values[lanes]
        report_shared(m, access, m.shared.write(access, values))

    return step


BUILDERS: dict[str, Builder] = {
    "shfl": _shuffle,
    "redux": _reduce,
    "vote": _vote,
    "elect": _elect,
    "ldmatrix": _load_matrices,
    "stmatrix": _store_matrices,
    "nanosleep": lambda i: lambda m: None,
    "activemask": lambda i: (
        lambda m: m.put(i.operands[0], np.full((1, 1), 2**32 - 1, dtype("u32")))
    ),
}
