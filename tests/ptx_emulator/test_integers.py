"""Integer and bit instructions, against Python's integers."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.ptx_emulator.programs import apply, dtype

EDGES = [0, 1, 2, 7, 31, 32, 0x7F, 0x80, 0xFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
WIDE = [*EDGES, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 0x123456789ABCDEF0]


def wrap(value: int, kind: str) -> int:
    """An integer as a PTX type keeps it."""
    width = int(kind[1:])
    value &= (1 << width) - 1
    return value - (1 << width) if kind[0] == "s" and value >> (width - 1) else value


def pairs(kind: str) -> tuple[list[int], list[int]]:
    """Each edge with each other, as this type."""
    edges = [wrap(value, kind) for value in (WIDE if kind[1:] == "64" else EDGES)]
    return [a for a in edges for _ in edges], [b for _ in edges for b in edges]


def quotient(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


BINARY: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda a, b, _: a + b,
    "sub": lambda a, b, _: a - b,
    "mul.lo": lambda a, b, _: a * b,
    "mul.hi": lambda a, b, width: a * b >> width,
    "min": lambda a, b, _: min(a, b),
    "max": lambda a, b, _: max(a, b),
}


@pytest.mark.parametrize("kind", ["s32", "u32", "s64", "u64"])
@pytest.mark.parametrize("name", BINARY)
def test_two_integers(name: str, kind: str) -> None:
    a, b = pairs(kind)
    want = [wrap(BINARY[name](x, y, int(kind[1:])), kind) for x, y in zip(a, b, strict=True)]
    assert apply(f"{name}.{kind}", kind, (kind, a), (kind, b)).tolist() == want


@pytest.mark.parametrize("kind", ["s32", "u32", "s64", "u64"])
@pytest.mark.parametrize("name", ["div", "rem"])
def test_division_rounds_toward_zero(name: str, kind: str) -> None:
    limit = wrap(1 << (int(kind[1:]) - 1), kind)
    # division by zero and of the least number by -1 are undefined
    some = [p for p in zip(*pairs(kind), strict=True) if p[1] and p != (limit, -1)]
    a, b = [p[0] for p in some], [p[1] for p in some]
    want = [quotient(x, y) if name == "div" else x - y * quotient(x, y) for x, y in some]
    assert apply(f"{name}.{kind}", kind, (kind, a), (kind, b)).tolist() == want


@pytest.mark.parametrize(("kind", "double"), [("s32", "s64"), ("u32", "u64"), ("u16", "u32")])
def test_products_of_twice_the_width(kind: str, double: str) -> None:
    a, b = pairs(kind)
    c = [wrap(17 * n * n - 3, double) for n in range(len(a))]
    want = [x * y for x, y in zip(a, b, strict=True)]
    assert apply(f"mul.wide.{kind}", double, (kind, a), (kind, b)).tolist() == want
    added = [wrap(x + y, double) for x, y in zip(want, c, strict=True)]
    got = apply(f"mad.wide.{kind}", double, (kind, a), (kind, b), (double, c))
    assert got.tolist() == added


@pytest.mark.parametrize("kind", ["b32", "b64", "u32", "s32", "u64", "s64"])
def test_shifts_are_clamped(kind: str) -> None:
    width = int(kind[1:])
    whole = kind.replace("b", "u")
    counts = [0, 1, 5, width - 1, width, width + 1, 64, 255, 1 << 31]
    values = [wrap(v, whole) for v in (WIDE if width == 64 else EDGES) for _ in counts]
    by = counts * (len(values) // len(counts))
    if kind[0] == "b":
        want = [wrap(v << min(n, 64), whole) for v, n in zip(values, by, strict=True)]
        got = apply(f"shl.{kind}", whole, (kind, values), ("u32", by))
    else:
        want = [v >> min(n, 64) for v, n in zip(values, by, strict=True)]
        got = apply(f"shr.{kind}", whole, (kind, values), ("u32", by))
    assert got.tolist() == want


@pytest.mark.parametrize("side", ["l", "r"])
def test_funnel_shifts_wrap(side: str) -> None:
    low, high = pairs("u32")
    by = [n * 7 % 67 for n in range(len(low))]
    both = [a | b << 32 for a, b in zip(low, high, strict=True)]
    shifts = [32 - n % 32 if side == "l" else n % 32 for n in by]
    want = [wrap(v >> n, "u32") for v, n in zip(both, shifts, strict=True)]
    got = apply(f"shf.{side}.wrap.b32", "b32", ("b32", low), ("b32", high), ("u32", by))
    assert got.tolist() == want


def field(value: int, start: int, length: int, kind: str) -> int:
    """bfe in the words of the PTX manual: bit by bit."""
    width = int(kind[1:])
    raw = value & ((1 << width) - 1)
    sign = 0 if kind[0] == "u" or not length else raw >> min(start + length - 1, width - 1) & 1
    found = 0
    for n in range(width):
        inside = n < length and start + n < width
        found |= (raw >> (start + n) & 1 if inside else sign) << n
    return wrap(found, kind)


@pytest.mark.parametrize("kind", ["u32", "s32", "u64", "s64"])
def test_fields(kind: str) -> None:
    places = [(s, n) for s in (0, 3, 8, 24, 31, 40) for n in (0, 1, 5, 8, 32, 64)]
    values = [wrap(v, kind) for v in WIDE for _ in places]
    starts, lengths = zip(*places * len(WIDE), strict=True)
    want = [field(*row, kind) for row in zip(values, starts, lengths, strict=True)]
    got = apply(f"bfe.{kind}", kind, (kind, values), ("u32", starts), ("u32", lengths))
    assert got.tolist() == want


def test_permuted_bytes_and_signs() -> None:
    selectors = [0x3210, 0x7654, 0x0123, 0x5410, 0x7632, 0x8888, 0xFBA9, 0xC8D9]
    low, high = 0x807F01FE, 0x00FF8155
    data = low.to_bytes(4, "little") + high.to_bytes(4, "little")
    want = []
    for selector in selectors:
        nibbles = [selector >> 4 * n & 15 for n in range(4)]
        chosen = [data[n & 7] if n < 8 else 255 * (data[n & 7] >> 7) for n in nibbles]
        want.append(int.from_bytes(bytes(chosen), "little"))
    got = apply("prmt.b32", "b32", ("b32", [low] * 8), ("b32", [high] * 8), ("b32", selectors))
    assert got.tolist() == want


@pytest.mark.parametrize("table", [0x00, 0x80, 0xFE, 0x96, 0xE8, 0xCA, 0x6A])
def test_logic_of_three_by_its_table(table: int) -> None:
    a, b, c = 0xF0F0A5A5, 0xCCCC3C3C, 0xAAAA9966
    want = 0
    for n in range(32):
        row = (a >> n & 1) << 2 | (b >> n & 1) << 1 | c >> n & 1
        want |= (table >> row & 1) << n
    operands = [("b32", [value]) for value in (a, b, c)]
    assert apply("lop3.b32", "b32", *operands, ("", str(table))).tolist() == [want]


def test_counts_of_bits_and_signs() -> None:
    assert apply("popc.b32", "u32", ("b32", EDGES)).tolist() == [v.bit_count() for v in EDGES]
    assert apply("popc.b64", "u32", ("b64", WIDE)).tolist() == [v.bit_count() for v in WIDE]
    assert apply("clz.b32", "u32", ("b32", EDGES)).tolist() == [32 - v.bit_length() for v in EDGES]
    assert apply("neg.s32", "s32", ("s32", [-(2**31), 5])).tolist() == [-(2**31), -5]
    assert apply("abs.s32", "s32", ("s32", [-7, 7])).tolist() == [7, 7]
    assert apply("not.b32", "b32", ("b32", [0, 5])).tolist() == [2**32 - 1, 2**32 - 6]


def test_comparisons_read_bits_as_their_type() -> None:
    a, b = pairs("u32")
    for kind in ("s32", "u32"):
        one = np.array(a, np.uint32).view(dtype(kind))
        two = np.array(b, np.uint32).view(dtype(kind))
        for name, function in (("lt", np.less), ("ge", np.greater_equal), ("ne", np.not_equal)):
            got = apply(f"setp.{name}.{kind}", "pred", ("b32", a), ("b32", b))
            assert got.tolist() == function(one, two).astype(int).tolist()
    both = apply("setp.gt.and.s32", "pred", ("s32", [1, 1]), ("s32", [0, 0]), ("pred", [0, 1]))
    assert both.tolist() == [0, 1]
    chosen = apply("selp.b32", "b32", ("b32", [1, 2]), ("b32", [3, 4]), ("pred", [1, 0]))
    assert chosen.tolist() == [1, 4]


def test_registers_join_and_split() -> None:
    assert apply("mov.b32", "b16 b16", ("b32", [0x12345678])).tolist() == [[0x5678], [0x1234]]
    assert apply("mov.b64", "b32 b32", ("b64", [5 << 32 | 3])).tolist() == [[3], [5]]
    extended = apply("cvt.s32.s8", "s32", ("b16", [0x80, 0x17F]))
    assert extended.tolist() == [-128, 127]
    assert apply("cvt.u32.u8", "u32", ("b16", [0x1FE])).tolist() == [0xFE]
    assert apply("cvt.s64.s32", "s64", ("s32", [-5])).tolist() == [-5]
    assert apply("cvt.u16.u32", "u16", ("u32", [0x12345])).tolist() == [0x2345]
