"""PTX's number types as numpy arrays: dtypes, bfloat16 and TF32, and how a conversion rounds."""

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptx_emulator.parser import Immediate, PTXError, bits

Array = NDArray[Any]
UNSIGNED = {1: np.bool_, 8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
_SIGNED = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
_FLOAT = {16: np.float16, 32: np.float32, 64: np.float64}
PACKED = {"bf16x2": "bf16", "f16x2": "f16"}
# numpy copies elements of one machine type fastest; 16 bytes have complex128's size
WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.complex128}
FLOATS = {"f16", "f32", "f64", "bf16", *PACKED}


@cache
def dtype(kind: str) -> np.dtype:
    """The numpy dtype that holds a PTX type; bfloat16 and packed pairs are their raw bits."""
    family = _SIGNED if kind[0] == "s" else _FLOAT if kind in ("f16", "f32", "f64") else UNSIGNED
    return np.dtype(family[bits(kind)])


def as_bits(values: Array, width: int) -> Array:
    """The same values as unsigned integers of `width` bits: truncated, or extended by their sign
    where they are signed.
    """
    target = UNSIGNED[width]
    if values.dtype == target:
        return values
    size = 8 * values.dtype.itemsize
    if size == width and width > 8:
        return values.view(target)
    return (
        values.astype(target)
        if values.dtype.kind in "iub"
        else as_bits(values.view(UNSIGNED[size]), width)
    )


def view(values: Array, kind: str) -> Array:
    """A register's contents read as `kind`."""
    want = dtype(kind)
    if values.dtype == want:
        return values
    if values.dtype == np.bool_ or want == np.bool_:
        raise PTXError(f"A predicate and {kind} are mixed.")
    raw = as_bits(values, bits(kind))
    return raw if raw.dtype == want else raw.view(want)


@lru_cache(maxsize=4096)
def constant(operand: Immediate, kind: str) -> Array:
    """(1, 1) a literal as a PTX type."""
    width = max(bits(kind), 8)
    raw: Array = np.full((1, 1), operand.value & ((1 << width) - 1), UNSIGNED[width])
    return raw.astype(bool) if kind == "pred" else view(raw, kind)


def widen(values: Array, kind: str) -> Array:
    """Floats of `kind`, as stored, in the dtype to calculate in: float32, or float64 for f64."""
    if kind == "bf16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values.astype(np.float32) if kind == "f16" else values


def narrow(values: Array, kind: str) -> Array:
    """Floats rounded to nearest even and stored as `kind`."""
    if kind == "bf16":
        values = np.asarray(values, np.float32)
        raw = values.view(np.uint32)
        rounded = (raw + np.uint32(0x7FFF) + ((raw >> np.uint32(16)) & np.uint32(1))) >> np.uint32(
            16
        )
        return np.where(np.isnan(values), np.uint16(0x7FFF), rounded.astype(np.uint16))
    return values.astype(_FLOAT[bits(kind)])


def halves(values: Array) -> tuple[Array, Array]:
    """The low and the high 16 bits of 32-bit registers."""
    raw = as_bits(values, 32)
    return raw.astype(np.uint16), (raw >> np.uint32(16)).astype(np.uint16)


def pair(low: Array, high: Array) -> Array:
    """32-bit registers of two 16-bit halves."""
    return as_bits(low, 16).astype(np.uint32) | (
        as_bits(high, 16).astype(np.uint32) << np.uint32(16)
    )


def tf32(values: Array, ties_away: bool = True) -> Array:
    """float32 rounded to TF32's 10 bits of mantissa, or cut, as a tensor core reads it."""
    raw = as_bits(values, 32)
    raw = raw + np.uint32(0x1000) if ties_away else raw
    return (raw & np.uint32(0xFFFFE000)).view(np.float32)


_TO_INTEGER: dict[str, Callable[[Array], Array]] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
}


def convert(values: Array, source: str, target: str, modifiers: tuple[str, ...]) -> Array:
    """cvt: values of PTX type `source` as `target`; float to integer saturates, NaN becomes 0."""
    to_integer = next((_TO_INTEGER[word] for word in modifiers if word in _TO_INTEGER), None)
    if target == "tf32":
        return tf32(values)
    if source not in FLOATS:
        if target not in FLOATS:
            return values.astype(dtype(target))
        # float64 holds every 32-bit integer, so that only one rounding follows
        exact = values.astype(np.float64)
        if target == "bf16":
            exact = exact.astype(np.float32)
        return narrow(exact, target)
    wide = widen(values, source)
    if target in FLOATS:
        if to_integer is not None:
            wide = to_integer(wide)
        if "rz" in modifiers and bits(target) < bits(source):
            return _toward_zero(wide, target)
        return narrow(wide, target) if target != source else narrow(wide, source)
    limits = np.iinfo(dtype(target))
    whole = (to_integer or np.trunc)(wide.astype(np.float64))
    # the largest 64-bit integer is no float64: what reaches it is set apart
    top = whole >= float(limits.max)
    inside = np.where(top | np.isnan(whole), 0, np.maximum(whole, float(limits.min)))
    return np.where(top, limits.max, inside.astype(dtype(target))).astype(dtype(target))


def _toward_zero(values: Array, kind: str) -> Array:
    if kind == "bf16":
        return (as_bits(values, 32) >> np.uint32(16)).astype(np.uint16)
    near = narrow(values, kind)
    too_large = np.abs(near.astype(np.float64)) > np.abs(values.astype(np.float64))
    return np.where(too_large, np.nextafter(near, near.dtype.type(0)), near)
