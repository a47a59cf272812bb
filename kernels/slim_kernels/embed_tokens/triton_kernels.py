"""embed_tokens as Triton kernels: patches are read from the clips and written as packed tokens in
one pass.

The gradients of all parameters are one product Aᵀ g: a token's row of A holds its patch's
coordinates, ones for the bias or the mask token, and for its joint or prefix. A is made in
registers, so g is read once and nothing is summed by atomics.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl

from slim_kernels.runtime.launch import KernelSpec
from slim_kernels.runtime.triton_rows import WIDTHS, load_rows, padded, store_rows


@triton.jit
def locate_tokens(
    index, o_m, m_m, start, count, length, V: tl.constexpr, R: tl.constexpr, INDEX: tl.constexpr
):
    """Where rows come from: whether from this group's `count` tokens (sequences of `length`), the
    clip, its position in the sequence, and for patches the temporal token and the joint.

    With an index it says which token a row is, counted over all groups, the group's from `start`
    on; else rows are the group's tokens.
    """
    o_r = o_m
    if INDEX:
        o_i = tl.load(index + o_m, mask=m_m, other=-1) - start
        m_m = m_m & (o_i >= 0) & (o_i < count)
        o_r = tl.where(m_m, o_i, 0).to(tl.int32)
    o_c, o_j = o_r // length, o_r % length
    o_q = tl.maximum(o_j - R, 0)
    return m_m, o_c, o_j, o_q // V, o_q % V


@triton.jit
def load_masked(mask, m_patch, o_c, o_t, o_v, steps, V: tl.constexpr, MASK: tl.constexpr):
    """Which patches are hidden: [B] bool; mask (clips, steps, V) or none."""
    if MASK:
        return m_patch & (tl.load(mask + (o_c * steps + o_t) * V + o_v, mask=m_patch, other=0) != 0)
    return m_patch & (o_c < 0)


@triton.jit
def patch_offsets(o_c, o_t, o_v, s_n, s_t, s_v, P: tl.constexpr):
    """Where patches begin, in int64."""
    return o_c.to(tl.int64) * s_n + (o_t * P).to(tl.int64) * s_t + o_v.to(tl.int64) * s_v


@triton.jit
def coordinate_offsets(o_k, s_t, s_c, P: tl.constexpr):
    """Where coordinate o_k = channel · P + frame lies in a patch, in int64."""
    return (o_k % P).to(tl.int64) * s_t + (o_k // P).to(tl.int64) * s_c


@triton.jit(do_not_specialize=["rows", "start", "count", "steps", "s_n", "s_t", "s_v", "s_c"])
def embed_kernel(
    x,
    mask,
    index,
    weight,
    table,
    out,
    rows,
    start,
    count,
    steps,
    s_n,
    s_t,
    s_v,
    s_c,
    D: tl.constexpr,
    DP: tl.constexpr,
    K: tl.constexpr,
    KP: tl.constexpr,
    P: tl.constexpr,
    V: tl.constexpr,
    R: tl.constexpr,
    MASK: tl.constexpr,
    INDEX: tl.constexpr,
    BM: tl.constexpr,
    BLOCKS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Those rows of out (rows, D) that come from one group of clips x (clips, steps · P, V, C) of
    any strides: weight · coordinates + a row of the table (2 V + R, D), which holds for each joint
    what is added to its patches and what its hidden patches are, then the prefix.

    A program takes BLOCKS blocks of rows, so that the weight is loaded once for all of them.
    """
    ACC: tl.constexpr = table.dtype.element_ty
    o_d, o_k = tl.arange(0, DP), tl.arange(0, KP)
    m_w = (o_d < D)[None, :] & (o_k < K)[:, None]
    b_w = tl.load(weight + o_d[None, :] * K + o_k[:, None], mask=m_w, other=0.0)  # [KP, DP]
    o_coordinate = coordinate_offsets(o_k, s_t, s_c, P)[None, :]
    for block in range(BLOCKS):
        first = (tl.program_id(0) * BLOCKS + block) * BM
        o_m = first + tl.arange(0, BM)
        m_g, o_c, o_j, o_t, o_v = locate_tokens(
            index, o_m, o_m < rows, start, count, R + steps * V, V, R, INDEX
        )
        is_any = tl.max(m_g.to(tl.int32), 0) > 0 if INDEX else first < rows
        if is_any:
            m_patch = m_g & (o_j >= R)
            m_hidden = load_masked(mask, m_patch, o_c, o_t, o_v, steps, V, MASK)
            m_x = (m_patch & (m_hidden == 0))[:, None] & (o_k < K)[None, :]
            o_patch = patch_offsets(o_c, o_t, o_v, s_n, s_t, s_v, P)[:, None]
            b_x = tl.load(x + o_patch + o_coordinate, mask=m_x, other=0.0)  # [BM, KP]
            o_row = tl.where(m_patch, tl.where(m_hidden, V + o_v, o_v), 2 * V + o_j)
            b_y = tl.load(
                table + (o_row[:, None] * D + o_d[None, :]),
                mask=m_g[:, None] & (o_d < D)[None, :],
                other=0.0,
            )
            b_y += tl.dot(b_x.to(b_w.dtype), b_w, input_precision=PRECISION, out_dtype=ACC)
            store_rows(out, b_y, first, m_g, D, DP, BM)


@triton.jit(do_not_specialize=["rows", "start", "count", "steps", "s_n", "s_t", "s_v", "s_c"])
def embed_backward_kernel(
    grad,
    x,
    mask,
    index,
    parts,
    rows,
    start,
    count,
    steps,
    s_n,
    s_t,
    s_v,
    s_c,
    D: tl.constexpr,
    DP: tl.constexpr,
    K: tl.constexpr,
    P: tl.constexpr,
    V: tl.constexpr,
    R: tl.constexpr,
    F: tl.constexpr,
    MASK: tl.constexpr,
    INDEX: tl.constexpr,
    BM: tl.constexpr,
    BF: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """parts (programs, F, D): Aᵀ g over this program's rows of one group, for BF of the F = K + 2 +
    V + R features of A. Programs take blocks of rows in turn, so that a group's tokens, which
    neighbour each other, are everyone's.
    """
    i_p, i_f = tl.program_id(0), tl.program_id(1)
    ACC: tl.constexpr = parts.dtype.element_ty
    o_d, o_f = tl.arange(0, DP), i_f * BF + tl.arange(0, BF)
    o_coordinate = coordinate_offsets(tl.minimum(o_f, K - 1), s_t, s_c, P)[:, None]
    b_parts = tl.zeros([BF, DP], ACC)
    for first in range(i_p * BM, rows, tl.num_programs(0) * BM):
        o_m = first + tl.arange(0, BM)
        m_g, o_c, o_j, o_t, o_v = locate_tokens(
            index, o_m, o_m < rows, start, count, R + steps * V, V, R, INDEX
        )
        is_any = tl.max(m_g.to(tl.int32), 0) > 0 if INDEX else True
        if is_any:
            m_patch = m_g & (o_j >= R)
            m_hidden = load_masked(mask, m_patch, o_c, o_t, o_v, steps, V, MASK)
            m_seen = m_patch & (m_hidden == 0)
            o_patch = patch_offsets(o_c, o_t, o_v, s_n, s_t, s_v, P)[None, :]
            m_x = m_seen[None, :] & (o_f < K)[:, None]
            b_a = tl.load(x + o_patch + o_coordinate, mask=m_x, other=0.0).to(ACC)  # [BF, BM]
            o_one = tl.where(m_hidden, K + 1, K)  # the feature of bias or mask token
            o_which = tl.where(m_patch, K + 2 + o_v, K + 2 + V + o_j)  # of joint or prefix
            b_one = ((o_f[:, None] == o_one[None, :]) & m_patch[None, :]) | (
                (o_f[:, None] == o_which[None, :]) & m_g[None, :]
            )
            b_a = tl.where(b_one, 1.0, b_a)
            b_g = load_rows(grad, first, m_g, D, DP, BM).to(ACC)  # [BM, DP]
            b_parts += tl.dot(b_a, b_g, input_precision=PRECISION, out_dtype=ACC)
    offsets = (i_p.to(tl.int64) * F + o_f)[:, None] * D + o_d[None, :]
    tl.store(parts + offsets, b_parts, mask=(o_f < F)[:, None] & (o_d < D)[None, :])


def _variants(width: int) -> Iterator[dict[str, Any]]:
    for mask, index in itertools.product((True, False), repeat=2):
        yield {
            "D": width,
            "DP": padded(width),
            "K": 24,
            "KP": 32,
            "P": 8,
            "V": 25,
            "R": 5,
            "MASK": mask,
            "INDEX": index,
            "PRECISION": "tf32x3",
            "mask": "i1" if mask else "S",
            "index": "i64" if index else "S",
        }


def _backward_variants(width: int) -> Iterator[dict[str, Any]]:
    for variant in _variants(width):
        variant.pop("KP")
        yield {"F": 56, **variant}


_TYPES = {
    "x": "S",
    "mask": "i1",
    "index": "i64",
    "weight": "fp32",
    "table": "fp32",
    "out": "S",
    "grad": "S",
    "parts": "fp32",
}
_STRIDES = {"s_n": "i64", "s_t": "i64", "s_v": "i64", "s_c": "i64"}
_SCALARS = {
    "rows": "i32",
    "start": "i64",
    "count": "i32",
    "steps": "i32",
    **_STRIDES,
}
KERNELS = {
    "embed": KernelSpec(embed_kernel, _TYPES, (WIDTHS,), _variants, _SCALARS),
    "embed_backward": KernelSpec(
        embed_backward_kernel, _TYPES, (WIDTHS,), _backward_variants, _SCALARS
    ),
}
