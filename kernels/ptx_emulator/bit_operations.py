"""Instructions on the bits of registers: logic, shifts, fields, comparisons, copies."""

from collections.abc import Callable

import numpy as np

from ptx_emulator.formats import FLOATS, UNSIGNED, Array, dtype, widen
from ptx_emulator.machine import Builder, Machine, Rule, Step, of_registers
from ptx_emulator.parser import Instruction, PTXError, Vector, bits

Function = Callable[..., Array]

_BITWISE: dict[str, Function] = {
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.bitwise_not,
}
_COMPARE: dict[str, Function] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
}


def _comparison(name: str, kind: str) -> Function:
    if kind not in FLOATS:
        return _COMPARE[name]
    either: Function = lambda a, b: np.isnan(a) | np.isnan(b)  # noqa: E731
    if name in ("num", "nan"):
        return either if name == "nan" else lambda a, b: ~either(a, b)
    if name in _COMPARE:
        # of numbers only: numpy's != is true of NaN
        return (lambda a, b: (a != b) & ~either(a, b)) if name == "ne" else _COMPARE[name]
    if name[:-1] not in _COMPARE or name[-1] != "u":
        raise PTXError(f"The emulator does not know the comparison .{name}.")
    return lambda a, b: _COMPARE[name[:-1]](a, b) | either(a, b)


def _setp(instruction: Instruction) -> Rule:
    kind = instruction.kind
    name, *logic = (word for word in instruction.modifiers[:-1] if word != "ftz")
    compare = _comparison(name, kind)
    combine = _BITWISE[logic[0]] if logic else None

    def setp(a: Array, b: Array, *last: Array) -> Array:
        value = compare(widen(a, kind), widen(b, kind))
        return combine(value, *last) if combine else value

    return setp, (kind, kind, "pred")


def _shift(instruction: Instruction) -> Rule:
    kind, left = instruction.kind, instruction.name == "shl"
    width = bits(kind)

    def shift(a: Array, count: Array) -> Array:
        inside = np.minimum(count, np.uint32(width - 1)).astype(a.dtype)
        shifted = a << inside if left else a >> inside
        # shifts are clamped: all bits of a larger one are zeros, or the sign
        if (not left and kind[0] == "s") or not (count >= width).any():
            return shifted
        return np.where(count >= width, a.dtype.type(0), shifted)

    return shift, (kind, "u32")


def _both(low: Array, high: Array) -> Array:
    """Pairs of 32-bit registers as 64 bits."""
    return low.astype(np.uint64) | (high.astype(np.uint64) << np.uint64(32))


def _funnel_shift(instruction: Instruction) -> Rule:
    if instruction.modifiers not in (("l", "wrap", "b32"), ("r", "wrap", "b32")):
        raise PTXError(f"The emulator does not know {instruction.text!r}.")
    left = instruction.modifiers[0] == "l"

    def shift(low: Array, high: Array, by: Array) -> Array:
        count = (by & np.uint32(31)).astype(np.uint64)
        return (_both(low, high) >> (np.uint64(32) - count if left else count)).astype(np.uint32)

    return shift, ("b32", "b32", "u32")


def _extract(instruction: Instruction) -> Rule:
    kind = instruction.kind

    def extract(value: Array, start: Array, length: Array) -> Array:
        a = value.astype(f"{'u' if kind[0] == 'u' else ''}int64")
        place, count = start & np.uint32(255), length & np.uint32(255)
        # shifted down and up against the end and down again, which brings the sign along
        unused = (64 - count.astype(np.int64)).clip(0, 63).astype(a.dtype)
        field = ((a >> np.minimum(place, 63).astype(a.dtype)) << unused) >> unused
        return np.where(count == 0, 0, field).astype(dtype(kind))

    return extract, (kind, "u32", "u32")


def _permute_bytes(instruction: Instruction) -> Rule:
    if instruction.modifiers != ("b32",):
        raise PTXError(f"The emulator does not know {instruction.text!r}.")

    def permute(first: Array, second: Array, choice: Array) -> Array:
        both, value = _both(first, second), np.zeros((1, 1), np.uint32)
        for place in range(4):
            nibble = (choice.astype(np.uint64) >> np.uint64(4 * place)) & np.uint64(15)
            byte = (both >> ((nibble & np.uint64(7)) * np.uint64(8))) & np.uint64(255)
            signed = np.where(byte & np.uint64(128), np.uint64(255), np.uint64(0))
            byte = np.where(nibble & np.uint64(8), signed, byte)
            value = value | (byte << np.uint64(8 * place)).astype(np.uint32)
        return value

    return permute, ("b32", "b32", "b32")


def _logic_of_three(a: Array, b: Array, c: Array, table: Array) -> Array:
    value: Array = np.zeros((1, 1), np.uint32)
    for row in range(8):
        if int(table[0, 0]) >> row & 1:
            x, y, z = (v if row >> n & 1 else ~v for v, n in ((a, 2), (b, 1), (c, 0)))
            value = value | (x & y & z)
    return value


def _select(a: Array, b: Array, condition: Array) -> Array:
    return np.where(condition, a, b)


def _count_bits(instruction: Instruction) -> Rule:
    def count(a: Array) -> Array:
        each = np.unpackbits(np.asarray(a)[..., None].view(np.uint8)[..., ::-1], axis=-1)
        counted = np.cumprod(1 - each, axis=-1) if instruction.name == "clz" else each
        return counted.sum(-1).astype(np.uint32)

    return count, (instruction.kind,)


def _move(instruction: Instruction) -> Step:
    result, value = instruction.operands
    kind = instruction.kind
    if isinstance(result, Vector):
        width = bits(kind) // len(result.parts)

        def split(m: Machine) -> None:
            whole = m.get(value, kind)
            for number, part in enumerate(result.parts):
                piece = whole >> whole.dtype.type(number * width) if number else whole
                m.put(part, piece.astype(UNSIGNED[width]))

        return split
    if isinstance(value, Vector):
        width = bits(kind) // len(value.parts)
        whole_dtype = dtype(kind).type

        def join(m: Machine) -> None:
            total = whole_dtype(0)
            for number, part in enumerate(value.parts):
                piece = m.get(part, f"b{width}").astype(whole_dtype)
                total = total | (piece << whole_dtype(number * width))
            m.put(result, total)

        return join
    return lambda m: m.put(result, m.get(value, kind))


BUILDERS: dict[str, Builder] = {
    **dict.fromkeys(_BITWISE, of_registers(lambda i: (_BITWISE[i.name], (i.kind, i.kind)))),
    **dict.fromkeys(("shl", "shr"), of_registers(_shift)),
    **dict.fromkeys(("popc", "clz"), of_registers(_count_bits)),
    "setp": of_registers(_setp),
    "selp": of_registers(lambda i: (_select, (i.kind, i.kind, "pred"))),
    "shf": of_registers(_funnel_shift),
    "bfe": of_registers(_extract),
    "prmt": of_registers(_permute_bytes),
    "lop3": of_registers(lambda i: (_logic_of_three, ("b32", "b32", "b32", "u32"))),
    "mov": _move,
    "cvta": of_registers(lambda i: (lambda address: address, ("u64",))),
}
