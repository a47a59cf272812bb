"""Instructions that only read and write registers: sums, products, functions, conversions.

Approximate instructions (ex2.approx, rcp.approx, div.full) give the correctly rounded value of
numpy, and .ftz keeps subnormal numbers: both differ from a GPU in the last bits only.
"""

from collections.abc import Callable

import numpy as np

from ptx_emulator.formats import (
    FLOATS,
    PACKED,
    Array,
    as_bits,
    convert,
    dtype,
    halves,
    narrow,
    pair,
    view,
    widen,
)
from ptx_emulator.machine import Builder, Rule, of_registers
from ptx_emulator.parser import Instruction, PTXError, bits

Function = Callable[..., Array]


def _remainder(a: Array, b: Array) -> Array:
    return np.fmod(a, np.where(b == 0, b.dtype.type(1), b))


def _quotient(a: Array, b: Array) -> Array:
    divisor = np.where(b == 0, b.dtype.type(1), b)
    return (a - np.fmod(a, divisor)) // divisor


def _nan_if_any(function: Function) -> Function:
    return lambda a, b: np.where(np.isnan(a) | np.isnan(b), np.float32(np.nan), function(a, b))


def _fma(a: Array, b: Array, c: Array) -> Array:
    # the product of two float32 is exact in float64: one rounding, but for ties of the sum
    if a.dtype == np.float64 or b.dtype == np.float64:
        return a * b + c
    return (a.astype(np.float64) * b + c).astype(np.float32)


_FLOAT: dict[str, Function] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "fma": _fma,
    "mad": _fma,
    "div": np.divide,
    "min": np.fmin,
    "max": np.fmax,
    "neg": np.negative,
    "abs": np.abs,
    "ex2": np.exp2,
    "lg2": np.log2,
    "sqrt": np.sqrt,
    "rsqrt": lambda a: a.dtype.type(1) / np.sqrt(a),
    "rcp": lambda a: a.dtype.type(1) / a,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "copysign": lambda a, b: np.copysign(b, a),
}
_INTEGER: dict[str, Function] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "mad": lambda a, b, c: a * b + c,
    "div": _quotient,
    "rem": _remainder,
    "min": np.minimum,
    "max": np.maximum,
    "neg": np.negative,
    "abs": np.abs,
}


def _known(instruction: Instruction, *words: str) -> None:
    for word in instruction.modifiers[: -1 if instruction.kind else None]:
        if word not in words:
            raise PTXError(f"The emulator does not know .{word} of {instruction.text!r}.")


def _arithmetic(instruction: Instruction) -> Rule:
    kind = instruction.kind
    if kind in FLOATS:
        return _float_arithmetic(instruction), (kind,) * 3
    _known(instruction, "lo", "hi", "wide")
    function = _INTEGER[instruction.name]
    if "wide" in instruction.modifiers:
        double = f"{kind[0]}{2 * bits(kind)}"
        wide = dtype(double)
        return lambda a, b, *c: function(a.astype(wide), b.astype(wide), *c), (kind, kind, double)
    if "hi" in instruction.modifiers:
        return lambda a, b, *c: sum(c, _high_product(a, b)), (kind,) * 3
    return function, (kind,) * 3


def _high_product(a: Array, b: Array) -> Array:
    """The upper half of a product of 32- or 64-bit integers."""
    width = 8 * a.dtype.itemsize
    if width < 64:
        double = np.dtype(f"{a.dtype.kind.replace('i', 'int').replace('u', 'uint')}64")
        return ((a.astype(double) * b.astype(double)) >> double.type(width)).astype(a.dtype)
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    u, v = as_bits(a, 64), as_bits(b, 64)
    u0, u1, v0, v1 = u & low, u >> half, v & low, v >> half
    middle = u1 * v0 + ((u0 * v0) >> half)
    product = u1 * v1 + (middle >> half) + ((u0 * v1 + (middle & low)) >> half)
    if a.dtype.kind == "i":
        product = product - np.where(a < 0, v, 0) - np.where(b < 0, u, 0)
    return product.astype(a.dtype)


def _float_arithmetic(instruction: Instruction) -> Function:
    _known(instruction, "rn", "ftz", "approx", "full", "NaN", "rna")
    kind, function = instruction.kind, _FLOAT[instruction.name]
    if "NaN" in instruction.modifiers:
        function = _nan_if_any(function)
    if kind in ("f32", "f64"):
        return function
    one = PACKED.get(kind, kind)

    def rounded(*values: Array) -> Array:
        return narrow(function(*(widen(view(value, one), one) for value in values)), one)

    if kind not in PACKED:
        return rounded
    return lambda *v: pair(*(rounded(*part) for part in zip(*map(halves, v), strict=True)))


def _convert(instruction: Instruction) -> Rule:
    *words, target, source = instruction.modifiers
    for word in words:
        if word not in ("rn", "rz", "rna", "ftz", "rni", "rzi", "rmi", "rpi"):
            raise PTXError(f"The emulator does not know .{word} of {instruction.text!r}.")
    dtype(target), dtype(source)  # types that are not known show here
    one, known = PACKED.get(target, target), tuple(words)

    def each(value: Array) -> Array:
        return convert(value, source, one, known)

    if target in PACKED:
        return lambda high, low: pair(each(low), each(high)), (source, source)
    return each, (source,)


BUILDERS: dict[str, Builder] = {
    **dict.fromkeys([*_FLOAT, *_INTEGER], of_registers(_arithmetic)),
    "cvt": of_registers(_convert),
}
