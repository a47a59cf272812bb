"""Matrix products: mma.sync of a warp and wgmma of a warpgroup, accumulated in float32.

Layouts of fragments: PTX ISA, "Matrix multiply-accumulate operation using mma instruction" and
"Asynchronous warpgroup level matrix multiply-accumulate instructions".
"""

import re

import numpy as np

from ptx_emulator.accesses import report_shared
from ptx_emulator.formats import Array, as_bits, tf32, widen
from ptx_emulator.machine import Builder, Machine, Step
from ptx_emulator.parser import (
    SHARED_BASE,
    Immediate,
    Instruction,
    Operand,
    PTXError,
    Register,
    Vector,
)
from ptx_emulator.shared_memory import Access
from ptx_emulator.warp_steps import LANE, by_warp, whole_warps

GROUP, PAIR = LANE // 4, LANE % 4
THREAD = np.arange(128)


def _numbers(words: Array, kind: str) -> Array:
    """(..., numbers in a word) float32 of 32-bit words: two of 16 bits, or one of TF32."""
    words = np.ascontiguousarray(words)[..., None]
    if kind == "tf32":
        return tf32(words, ties_away=False)  # a tensor core does not read the low 13 bits
    return _halves(words.view(np.uint16), kind)


def _halves(raw: Array, kind: str) -> Array:
    return widen(raw if kind == "bf16" else raw.view(np.float16), kind)


def _words(m: Machine, operand: Operand) -> list[Array]:
    """Each register of an operand, (blocks, warps, 32) words."""
    parts = operand.parts if isinstance(operand, Vector) else (operand,)
    shape = (len(m.blocks), m.threads)
    return [by_warp(m, np.broadcast_to(as_bits(m.get(p, "b32"), 32), shape)) for p in parts]


def _fragment(
    words: list[Array], kind: str, rows: int, depth: int, first: Array, second: Array
) -> Array:
    """(..., rows, depth) from registers: register i holds row `first` + 8 (i % 2) and columns from
    depth / 2 (i // 2) on where there are two blocks of rows, else columns from 8 (or 4) i on.
    """
    wide = 1 if kind == "tf32" else 2
    matrix = np.empty((*words[0].shape[:-1], rows, depth), np.float32)
    two = rows > 8
    for number, word in enumerate(words):
        values = _numbers(word, kind)
        row = first + 8 * (number % 2) if two else first
        column = second * wide + 4 * wide * (number // 2 if two else number)
        for part in range(wide):
            matrix[..., row, column + part] = values[..., part]
    return matrix


def _mma(instruction: Instruction) -> Step:
    found = re.search(r"\.m16n8k(\d+)\.row\.col\.(\w+)\.(\w+)\.(\w+)\.(\w+)", instruction.text)
    if found is None or found[2] != "f32" or found[3] not in ("bf16", "f16", "tf32"):
        raise PTXError(f"The emulator does not know {instruction.text!r}.")
    depth, kind = int(found[1]), found[3]
    result, left, right, addend = instruction.operands
    assert isinstance(result, Vector)

    def step(m: Machine) -> None:
        whole_warps(m)
        a = _fragment(_words(m, left), kind, 16, depth, GROUP, PAIR)
        b = _fragment(_words(m, right), kind, 8, depth, GROUP, PAIR)
        product = a @ b.swapaxes(-1, -2)
        for number, (part, old) in enumerate(zip(result.parts, _words(m, addend), strict=True)):
            value = product[..., GROUP + 8 * (number // 2), 2 * PAIR + number % 2]
            value = value + old.view(np.float32)
            m.put(part, value.reshape(len(m.blocks), -1))

    return step


# --- wgmma ---


def _warpgroup(instruction: Instruction) -> Step:
    word = instruction.modifiers[0]
    if word == "fence":
        return lambda m: m.unfenced.clear()
    if word == "commit_group":
        return _commit
    if word == "wait_group":
        keep = instruction.operands[0]
        return lambda m: _wait(m, int(m.get(keep, "u32")[0, 0]))
    if word != "mma_async":
        raise PTXError(f"The emulator does not know {instruction.text!r}.")
    return _product(instruction)


def _commit(m: Machine) -> None:
    m.products.append([])
    m.committed += 1


def _wait(m: Machine, keep: int) -> None:
    """Wait until at most `keep` committed groups are under way."""
    done = max(len(m.products) - 1 - keep, 0)
    for group in m.products[:done]:
        for access in group:
            m.shared.end(access, "leaving")
    m.products = m.products[done:]
    m.busy = {slot: group for slot, group in m.busy.items() if group >= m.committed - keep}


def track_registers(m: Machine, instruction: Instruction) -> None:
    """Note uses of registers that a product under way still reads or writes, and products of
    registers that were used since the last wgmma.fence. A copy (mov) is no use: it stands for the
    register itself, and the assembler gives both one place.
    """
    result = instruction.operands[0] if instruction.operands else None
    if instruction.name == "wgmma":
        if instruction.modifiers[0] == "mma_async":
            loose = m.unfenced & _fragments(instruction)
            if loose:
                m.report("in flight", 0, 0, "a register used since the last wgmma.fence")
        return
    source = instruction.operands[-1] if instruction.operands else None
    is_copy = instruction.name == "mov" and isinstance(source, Register)
    if is_copy and isinstance(result, Register):
        assert isinstance(source, Register)
        m.busy.pop(result.slot, None)
        if source.slot in m.busy:
            m.busy[result.slot] = m.busy[source.slot]
        (m.unfenced.add if source.slot in m.unfenced else m.unfenced.discard)(result.slot)
        return
    if m.busy.keys() & instruction.registers:
        m.report("in flight", 0, 0, "a register of a product that was not waited for")
    m.unfenced |= instruction.registers


def _slots(operand: Operand | None) -> set[int]:
    parts = operand.parts if isinstance(operand, Vector) else (operand,)
    return {part.slot for part in parts if isinstance(part, Register)}


def _fragments(instruction: Instruction) -> set[int]:
    """The registers that a product reads or writes while it is under way."""
    result, left = instruction.operands[:2]
    return _slots(result) | (_slots(left) if isinstance(left, Vector) else set())


def _product(instruction: Instruction) -> Step:
    found = re.search(r"\.m64n(\d+)k(\d+)\.(\w+)\.(\w+)\.(\w+)", instruction.text)
    if found is None or found[3] != "f32" or found[4] not in ("bf16", "f16", "tf32"):
        raise PTXError(f"The emulator does not know {instruction.text!r}.")
    columns, depth, kind = int(found[1]), int(found[2]), found[4]
    result, left, right, scale, *flags = instruction.operands
    assert isinstance(result, Vector)
    signs, transposes = flags[:2], [bool(f.value) for f in flags[2:] if isinstance(f, Immediate)]
    if any(not isinstance(f, Immediate) or f.value != 1 for f in signs):
        raise PTXError(f"The emulator does not know {instruction.text!r}.")
    left_transposed = transposes[0] if len(transposes) == 2 else False
    right_transposed = transposes[-1] if transposes else False
    size = 4 if kind == "tf32" else 2
    fragments = _fragments(instruction)
    row = 16 * (THREAD // 32) + THREAD % 32 // 4
    pair = THREAD % 4

    def step(m: Machine) -> None:
        whole_warps(m, 128)
        group = (len(m.blocks), m.threads // 128, 128)
        if isinstance(left, Vector):
            words = [w.reshape(group) for w in _words(m, left)]
            a = _fragment(words, kind, 64, depth, row, pair)
        else:
            a = _tile(m, m.get(left, "u64"), 64, depth, size, left_transposed, kind)
        b = _tile(m, m.get(right, "u64"), columns, depth, size, right_transposed, kind)
        product = a @ b.swapaxes(-1, -2)
        product = np.broadcast_to(product, (*group[:2], 64, columns))
        keep = m.get(scale, "pred")
        for number, part in enumerate(result.parts):
            value = product[
                ..., row + 8 * (number % 4 // 2), 8 * (number // 4) + 2 * pair + number % 2
            ]
            value = value.reshape(len(m.blocks), -1)
            if keep.all():
                value = value + m.get(part, "f32")
            elif keep.any():
                value = value + np.where(keep, m.get(part, "f32"), np.float32(0))
            m.put(part, value)
        m.busy.update(dict.fromkeys(fragments, m.committed))

    return step


def _tile(
    m: Machine, descriptor: Array, rows: int, depth: int, size: int, transposed: bool, kind: str
) -> Array:
    """(1 or blocks, warpgroups, rows, depth) of an operand in shared memory, which a 64-bit matrix
    descriptor locates: address, leading and stride byte offsets (in 16 bytes) and the swizzle.
    """
    whole = np.broadcast_to(descriptor, (len(descriptor), m.threads))
    groups = whole.reshape(len(whole), -1, 128)
    if (groups != groups[..., :1]).any():
        m.report("warp", 0, 0, "a descriptor that differs within a warpgroup")
    d = groups[..., 0].astype(np.int64)  # (1 or blocks, warpgroups)
    modes = np.unique((groups[..., 0] >> np.uint64(62)).astype(int))
    if len(modes) > 1 or ((d >> 49) & 7).any():
        raise PTXError("The emulator knows no matrix descriptor with a base offset.")
    base, leading, stride = (
        (((d >> shift) & 0x3FFF) << 4)[..., None, None] for shift in (0, 16, 32)
    )
    width = {0: 16, 1: 128, 2: 64, 3: 32}[int(modes[0])]
    per = width // size
    r, k = np.arange(rows)[:, None], np.arange(depth)
    if width == 16 and not transposed:
        a = base + r % 8 * 16 + r // 8 * stride + k % per * size + k // per * leading
    elif width == 16:
        a = base + r % per * size + r // per * stride + k % 8 * 16 + k // 8 * leading
    elif not transposed:
        a = base + r % 8 * width + r // 8 * stride + k * size
    else:
        a = base + r % per * size + r // per * leading + k % 8 * width + k // 8 * stride
    a = a ^ (((a >> 7) & (width // 16 - 1)) << 4)
    a = (a + (SHARED_BASE & ~0x3FFFF)) - SHARED_BASE
    return _read_tile(m, a, size, kind)


def _read_tile(m: Machine, offsets: Array, size: int, kind: str) -> Array:
    """offsets: (1 or blocks, warpgroups, rows, depth), the lowest 4 bits within 16 bytes."""
    first = 4 * np.arange(offsets.shape[1])[:, None, None]
    warps = np.broadcast_to(first, offsets.shape[1:])
    inside = (offsets >= 0) & (offsets + size <= m.shared.size)
    rows = None
    if len(offsets) > 1 or m.mask is not None:
        shape = (len(m.blocks), *offsets.shape[1:])
        offsets, inside = np.broadcast_to(offsets, shape), np.broadcast_to(inside, shape)
        rows = np.repeat(np.arange(len(m.blocks)), offsets[0].size)
        warps = np.broadcast_to(warps, shape)
    access = Access(rows, np.where(inside, offsets, 0).reshape(-1), size, warps.reshape(-1))
    if not inside.all():
        report_shared(m, access, {"shared out of bounds": ~inside.reshape(-1)})
    report_shared(m, access, m.shared.note_read(access, proxy=True))
    m.shared.begin(access, "leaving")
    m.products[-1].append(access)
    raw = m.shared.load(access).reshape(-1, *offsets.shape[1:], size)
    if size == 4:
        return tf32(raw.view(np.uint32)[..., 0], ties_away=False)
    return _halves(raw.view(np.uint16)[..., 0], kind)


BUILDERS: dict[str, Builder] = {"mma": _mma, "wgmma": _warpgroup}
