"""tube_masks, one program a mask: it proposes tubes until the mask is full or none fits."""

from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl

from slim_kernels.runtime import counter_random
from slim_kernels.runtime.launch import KernelSpec
from slim_kernels.tube_masks.reference import DRAWN_AHEAD, NUMBERS, PROPOSALS

_GOLDEN: tl.constexpr = tl.constexpr(counter_random.GOLDEN)
_MIX_1: tl.constexpr = tl.constexpr(counter_random.MIX_1)
_MIX_2: tl.constexpr = tl.constexpr(counter_random.MIX_2)
_PROPOSALS: tl.constexpr = tl.constexpr(PROPOSALS)
_AHEAD: tl.constexpr = tl.constexpr(DRAWN_AHEAD)
_NUMBERS: tl.constexpr = tl.constexpr(NUMBERS)


@triton.jit
def mix(x):
    """counter_random.mix of int64."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _MIX_1
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _MIX_2
    return x ^ ((x >> 31) & ((1 << 33) - 1))


@triton.jit
def uniform(stream, counter):
    """The stream's random number of that counter, from 1 on, float32 in [0, 1)."""
    bits = mix(stream + tl.cast(counter, tl.int64) * _GOLDEN)
    return tl.cast((bits >> 40) & 0xFFFFFF, tl.float32) * 5.9604644775390625e-08


@triton.jit
def round_to_even(x):
    """To the nearest whole number, halves to the even one; x from 0 to 2²²."""
    r = tl.floor(x + 0.5)
    odd = r - 2.0 * tl.floor(r * 0.5)
    return tl.where((r - x > 0.5) | ((r - x == 0.5) & (odd > 0)), r - 1.0, r)


@triton.jit(do_not_specialize=["most", "times"])
def tube_masks_kernel(
    budget,
    tokens,
    least,
    keys,
    parts,
    columns,
    out,
    most,
    times,
    P: tl.constexpr,
    V: tl.constexpr,
    VP: tl.constexpr,
    TP: tl.constexpr,
):
    """out[n]: the mask (times, V) of row n. VP, TP: joints and tokens of time, padded."""
    i_n = tl.program_id(0)
    o_t, o_v = tl.arange(0, TP), tl.arange(0, VP)
    b_time = tl.cast(o_t, tl.float32)
    b_column = tl.cast(tl.load(columns + o_v, mask=o_v < V, other=-1), tl.float32)
    left = tl.cast(tl.load(budget + i_n), tl.float32)
    length, low = tl.cast(tl.load(tokens + i_n), tl.float32), tl.load(least + i_n)
    low = tl.cast(low, tl.float32)
    key = tl.load(keys + i_n)
    b_free = tl.full([TP, VP], 1.0, tl.float32)
    refusals, proposal = tl.full((), 0, tl.int32), tl.full((), 0, tl.int32)
    while (left > 0) & (refusals < _PROPOSALS):
        turn = proposal % _AHEAD
        stream = mix((key ^ (proposal - turn)) + _GOLDEN)
        counter = turn * _NUMBERS + 1
        part = tl.cast(uniform(stream, counter) * P, tl.int32)
        size, base = tl.load(parts + 2 * part), tl.load(parts + 2 * part + 1)
        width = tl.floor(uniform(stream, counter + 1) * size) + 1.0
        first = tl.floor(uniform(stream, counter + 2) * (size - width + 1.0)) + base
        # as PyTorch interpolates, from the nearer end
        high, u = tl.minimum(left, tl.cast(most, tl.float32)), uniform(stream, counter + 3)
        area = tl.fma(tl.where(u < 0.5, u, u - 1.0), high - low, tl.where(u < 0.5, low, high))
        height = tl.maximum(round_to_even(tl.div_rn(area, width)), 1.0)
        height = tl.minimum(height, length)
        start = tl.floor(uniform(stream, counter + 4) * (length - height + 1.0))
        during = (b_time >= start) & (b_time < start + height)
        joints = (b_column >= first) & (b_column < first + width)
        b_taken = tl.where(during[:, None] & joints[None, :], b_free, 0.0)
        added = tl.sum(tl.sum(b_taken, 1), 0)
        accepted = (added > 0) & (added <= left)
        b_free = tl.where(accepted, b_free - b_taken, b_free)
        left = tl.where(accepted, left - added, left)
        refusals = tl.where(accepted, 0, refusals + 1)
        proposal += 1
    place = tl.cast(i_n, tl.int64) * times * V + o_t[:, None] * V + o_v[None, :]
    tl.store(out + place, b_free == 0.0, mask=(o_t < times)[:, None] & (o_v < V)[None, :])


def _variants(cells: int) -> Iterator[dict[str, Any]]:
    yield {"P": 5, "V": cells // 8 - 7, "VP": cells // 8, "TP": 8}


KERNELS = {
    "tube_masks": KernelSpec(
        tube_masks_kernel,
        {
            **dict.fromkeys(("budget", "tokens", "least", "keys", "columns"), "i64"),
            "parts": "fp32",
            "out": "i1",
        },
        ((256, 8192),),
        _variants,
        {"most": "i32", "times": "i32"},
        ("T",),
        ("fp16",),
        matrix=False,
    )
}
