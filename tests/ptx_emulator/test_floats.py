"""Floating-point instructions and conversions, against numpy's and torch's rounding and exact
fractions.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch
from ptx_emulator import PTXError

from tests.ptx_emulator.programs import Array, apply

NAN, INF = float("nan"), float("inf")
# both sides of bfloat16's and float16's ties, subnormals, the largest of each, and none
TRICKY = [0.0, -0.0, 1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -(1 + 2**-9), 1 + 2**-11]
TRICKY += [1 + 3 * 2**-11, 2**-14, 2**-15 + 2**-25, 2**-25, 3e-8, 65504.0, 65519.9, 65520.0, 1e6]
TRICKY += [3.3895e38, 3.4e38, 2**-133, INF, -INF, NAN]


def numbers(count: int, seed: int) -> Array:
    draw = np.random.default_rng(seed)
    return (draw.standard_normal(count) * 10.0 ** draw.integers(-6, 6, count)).astype(np.float32)


def bfloat16(values: Array) -> list[int]:
    """The bits of values rounded by torch; NaN as PTX writes it."""
    rounded = torch.tensor(values, dtype=torch.float32).bfloat16()
    bits = rounded.view(torch.int16).int() & 0xFFFF
    return torch.where(rounded.isnan(), 0x7FFF, bits).tolist()


def bits16(values: Array) -> list[int]:
    return np.asarray(values, np.float16).view(np.uint16).tolist()


@pytest.mark.parametrize("name", ["add", "sub", "mul", "min", "max"])
@pytest.mark.parametrize("kind", ["f32", "f16", "bf16"])
def test_two_numbers_are_rounded_once(name: str, kind: str) -> None:
    a, b = numbers(96, 0), numbers(96, 1)
    function = {"add": np.add, "sub": np.subtract, "mul": np.multiply}.get(name) or (
        np.fmin if name == "min" else np.fmax
    )
    if kind == "f32":
        assert (
            apply(f"{name}.f32", "f32", ("f32", a), ("f32", b)).tolist() == function(a, b).tolist()
        )
        return
    with np.errstate(over="ignore"):
        if kind == "f16":
            x, y = (np.clip(v, -6e4, 6e4).astype(np.float16) for v in (a, b))
            want = bits16(function(x, y))
            got = apply(
                f"{name}.f16", "b16", ("b16", x.view(np.uint16)), ("b16", y.view(np.uint16))
            )
        else:
            x, y = (torch.tensor(v).bfloat16() for v in (a, b))
            want = bfloat16(function(x.float().numpy(), y.float().numpy()))
            raw = [("b16", v.view(torch.int16).numpy().view(np.uint16)) for v in (x, y)]
            got = apply(f"{name}.bf16", "b16", *raw)
    assert got.tolist() == want


def test_fma_is_rounded_once() -> None:
    a, b = numbers(96, 2), numbers(96, 3)
    c = -a * b  # what is left is the product's own rounding error
    exact = [
        float(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)))
        for x, y, z in zip(a, b, c, strict=True)
    ]
    got = apply("fma.rn.f32", "f32", ("f32", a), ("f32", b), ("f32", c))
    assert got.tolist() == np.array(exact, np.float32).tolist()
    assert any(got)


def test_packed_pairs_are_two_numbers() -> None:
    a, b, c = (np.clip(numbers(64, seed), -99, 99).astype(np.float16) for seed in (4, 5, 6))
    raw = [("b32", v.view(np.uint32)) for v in (a, b, c)]
    want = (a.astype(np.float64) * b + c).astype(np.float16)
    assert apply("fma.rn.f16x2", "b32", *raw).tolist() == want.view(np.uint32).tolist()
    low, high = [1 + 2**-8], [3.0]
    packed = apply("cvt.rn.bf16x2.f32", "b32", ("f32", high), ("f32", low))
    assert packed.tolist() == [bfloat16(high)[0] << 16 | bfloat16(low)[0]]
    doubled = apply("add.bf16x2", "b32", ("b32", packed), ("b32", packed))
    assert doubled.tolist() == [bfloat16([6.0])[0] << 16 | bfloat16([2.0])[0]]


def test_conversion_to_16_bits() -> None:
    with np.errstate(over="ignore"):
        assert apply("cvt.rn.bf16.f32", "b16", ("f32", TRICKY)).tolist() == bfloat16(TRICKY)
        half = apply("cvt.rn.f16.f32", "b16", ("f32", TRICKY)).view(np.float16)
        assert np.array_equal(half, np.array(TRICKY, np.float32).astype(np.float16), True)
    for kind in ("f16", "bf16"):
        cut = apply(f"cvt.rz.{kind}.f32", "b16", ("f32", numbers(64, 7)))
        back = apply(f"cvt.f32.{kind}", "f32", ("b16", cut))
        near = apply(f"cvt.rn.{kind}.f32", "b16", ("f32", numbers(64, 7)))
        assert (abs(back) <= abs(numbers(64, 7))).all()
        assert set((near.astype(int) - cut).tolist()) == {0, 1}
    every = np.arange(1 << 16)
    wide = apply("cvt.f32.bf16", "f32", ("b16", every[::37]))
    assert np.array_equal(
        wide, (every[::37].astype(np.uint32) << np.uint32(16)).view(np.float32), True
    )


def test_tf32_ties_go_away_from_zero() -> None:
    got = apply("cvt.rna.tf32.f32", "b32", ("f32", [1 + 2**-11, 1 + 2**-12, -1 - 2**-11]))
    assert got.view(np.float32).tolist() == [1 + 2**-10, 1.0, -1 - 2**-10]


@pytest.mark.parametrize(
    ("instruction", "kind", "want"),
    [
        ("cvt.rni.s32.f32", "s32", [0, 2, -2, 2, 2**31 - 1, -(2**31), 0]),
        ("cvt.rzi.s32.f32", "s32", [0, 1, -1, 2, 2**31 - 1, -(2**31), 0]),
        ("cvt.rmi.s32.f32", "s32", [0, 1, -2, 2, 2**31 - 1, -(2**31), 0]),
        ("cvt.rpi.s32.f32", "s32", [1, 2, -1, 3, 2**31 - 1, -(2**31), 0]),
        ("cvt.rzi.u32.f32", "u32", [0, 1, 0, 2, 2**32 - 1, 0, 0]),
        ("cvt.rzi.s64.f32", "s64", [0, 1, -1, 2, 2**63 - 1, -(2**63), 0]),
    ],
)
def test_integers_saturate_and_nan_is_zero(instruction: str, kind: str, want: list[int]) -> None:
    values = [0.5, 1.5, -1.5, 2.5, 1e30, -1e30, NAN]
    assert apply(instruction, kind, ("f32", values)).tolist() == want


def test_integers_become_the_nearest_number() -> None:
    whole = [2**31 - 1, -(2**31), 16777217, 33554435]
    got = apply("cvt.rn.f32.s32", "f32", ("s32", whole))
    assert got.tolist() == np.array(whole).astype(np.float32).tolist()
    assert apply("cvt.rn.f16.u32", "b16", ("u32", [2049, 2051])).tolist() == bits16([2048, 2052])
    assert apply("cvt.rni.f32.f32", "f32", ("f32", [2.5, -0.5])).tolist() == [2.0, 0.0]


def test_comparisons_with_nan() -> None:
    a, b = [1.0, NAN, 1.0, NAN, 2.0], [1.0, 1.0, NAN, NAN, 1.0]
    want = {
        **{"eq": [1, 0, 0, 0, 0], "ne": [0, 0, 0, 0, 1], "lt": [0] * 5, "ge": [1, 0, 0, 0, 1]},
        **{"equ": [1, 1, 1, 1, 0], "neu": [0, 1, 1, 1, 1], "ltu": [0, 1, 1, 1, 0]},
        **{"num": [1, 0, 0, 0, 1], "nan": [0, 1, 1, 1, 0]},
    }
    for name, expected in want.items():
        got = apply(f"setp.{name}.f32", "pred", ("f32", a), ("f32", b))
        assert got.tolist() == expected, name


def test_the_smaller_number_and_nan() -> None:
    a, b = [NAN, 1.0, NAN], [2.0, NAN, NAN]
    got = apply("min.f32", "f32", ("f32", a), ("f32", b)).tolist()
    assert got[:2] == [2.0, 1.0]
    assert got[2] != got[2]
    strict = apply("max.NaN.f32", "f32", ("f32", a), ("f32", b))
    assert np.isnan(strict).all()


@pytest.mark.parametrize(
    ("instruction", "function"),
    [
        ("ex2.approx.ftz.f32", np.exp2),
        ("lg2.approx.f32", np.log2),
        ("rcp.approx.f32", lambda a: 1 / a),
        ("rsqrt.approx.f32", lambda a: 1 / np.sqrt(a)),
        ("sqrt.rn.f32", np.sqrt),
        ("sin.approx.f32", np.sin),
        ("tanh.approx.f32", np.tanh),
    ],
)
def test_functions(instruction: str, function: np.ufunc) -> None:
    values = np.linspace(0.1, 5, 64, dtype=np.float32)
    got = apply(instruction, "f32", ("f32", values))
    np.testing.assert_allclose(got, function(values.astype(np.float64)), rtol=3e-7)


@pytest.mark.parametrize(
    "instruction", ["cvt.rn.satfinite.f16.f32", "add.sat.f32", "fancy.f32", "cvt.rn.e4m3x2.f32"]
)
def test_what_is_not_known_is_named(instruction: str) -> None:
    with pytest.raises(PTXError, match=r"does not know.*" + instruction):
        apply(instruction, "f32", ("f32", [1.0]), ("f32", [1.0]))
