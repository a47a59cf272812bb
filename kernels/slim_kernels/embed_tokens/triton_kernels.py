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
from slim_kernels.runtime.triton_rows import WIDTHS, load_feature, load_rows, padded, store_rows


@triton.jit
def locate_tokens(
    index, o_m, m_m, start, length, clips, V: tl.constexpr, R: tl.constexpr, INDEX: tl.constexpr
):
    """Where packed tokens come from: whether from this group of `clips` sequences of `length`, the
    clip, its position in the sequence, and for patches the temporal token and the joint.
    """
    o_r = tl.load(index + o_m, mask=m_m, other=-1) if INDEX else o_m.to(tl.int64)
    o_r -= start
    m_g = m_m & (o_r >= 0) & (o_r < clips * length)
    o_r = tl.where(m_g, o_r, 0)
    o_c, o_j = o_r // length, o_r % length
    o_q = tl.maximum(o_j - R, 0)
    return m_g, o_c, o_j, o_q // V, o_q % V


@triton.jit
def load_masked(mask, m_patch, o_c, o_t, o_v, steps, V: tl.constexpr, MASK: tl.constexpr):
    """Which patches are hidden: [B] bool; mask (clips, steps, V) or none."""
    if MASK:
        return m_patch & (tl.load(mask + (o_c * steps + o_t) * V + o_v, mask=m_patch, other=0) != 0)
    return m_patch & (o_c < 0)


@triton.jit
def coordinate_offsets(o_c, o_t, o_v, o_k, s_n, s_t, s_v, s_c, P: tl.constexpr):
    """Offsets of coordinate o_k = channel · P + frame of patches, all int64 and of one shape after
    broadcasting.
    """
    return o_c * s_n + (o_t * P + o_k % P) * s_t + o_v * s_v + (o_k // P).to(tl.int64) * s_c


@triton.jit(do_not_specialize=["total", "start", "clips", "steps", "s_n", "s_t", "s_v", "s_c"])
def embed_kernel(
    x,
    mask,
    index,
    weight,
    bias,
    mask_token,
    joints,
    prefix,
    out,
    total,
    start,
    clips,
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
    PRECISION: tl.constexpr,
):
    """The packed tokens that come from one group of clips x (clips, steps · P, V, C) of any
    strides.
    """
    ACC: tl.constexpr = bias.dtype.element_ty
    o_m = tl.program_id(0) * BM + tl.arange(0, BM)
    o_d, o_k = tl.arange(0, DP), tl.arange(0, KP)
    m_g, o_c, o_j, o_t, o_v = locate_tokens(
        index, o_m, o_m < total, start, R + steps * V, clips, V, R, INDEX
    )
    if tl.max(m_g.to(tl.int32), 0) > 0:
        m_patch = m_g & (o_j >= R)
        m_hidden = load_masked(mask, m_patch, o_c, o_t, o_v, steps, V, MASK)
        m_seen = m_patch & (m_hidden == 0)
        m_d = (o_d < D)[None, :]
        offsets = coordinate_offsets(
            o_c[:, None], o_t[:, None], o_v[:, None], o_k[None, :], s_n, s_t, s_v, s_c, P
        )
        b_x = tl.load(x + offsets, mask=m_seen[:, None] & (o_k < K)[None, :], other=0.0)  # [BM, KP]
        # [KP, DP]
        b_w = tl.load(
            weight + o_d[None, :] * K + o_k[:, None], mask=m_d & (o_k < K)[:, None], other=0.0
        )
        b_y = tl.dot(
            b_x.to(b_w.dtype), b_w, input_precision=PRECISION, out_dtype=ACC
        ) + load_feature(bias, D, DP)
        b_y = tl.where(m_hidden[:, None], load_feature(mask_token, D, DP), b_y)
        b_y += tl.load(
            joints + o_v[:, None] * D + o_d[None, :], mask=m_patch[:, None] & m_d, other=0.0
        )
        m_prefix = (m_g & (o_j < R))[:, None]
        b_p = tl.load(prefix + o_j[:, None] * D + o_d[None, :], mask=m_prefix & m_d, other=0.0)
        store_rows(out, tl.where(m_prefix, b_p, b_y), tl.program_id(0) * BM, m_g, D, DP, BM)


@triton.jit(
    do_not_specialize=["total", "span", "start", "clips", "steps", "s_n", "s_t", "s_v", "s_c"]
)
def embed_backward_kernel(
    grad,
    x,
    mask,
    index,
    parts,
    total,
    span,
    start,
    clips,
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
    """parts (programs, F, D): Aᵀ g over this program's `span` tokens, for BF of the F = K + 2 + V +
    R features of A.
    """
    i_p, i_f = tl.program_id(0), tl.program_id(1)
    ACC: tl.constexpr = parts.dtype.element_ty
    o_d, o_f = tl.arange(0, DP), i_f * BF + tl.arange(0, BF)
    o_k = tl.minimum(o_f, K - 1)[:, None]
    b_parts = tl.zeros([BF, DP], ACC)
    end = tl.minimum((i_p + 1) * span, total)
    for first in range(i_p * span, end, BM):
        o_m = first + tl.arange(0, BM)
        m_g, o_c, o_j, o_t, o_v = locate_tokens(
            index, o_m, o_m < end, start, R + steps * V, clips, V, R, INDEX
        )
        m_patch = m_g & (o_j >= R)
        m_hidden = load_masked(mask, m_patch, o_c, o_t, o_v, steps, V, MASK)
        m_seen = m_patch & (m_hidden == 0)
        offsets = coordinate_offsets(
            o_c[None, :], o_t[None, :], o_v[None, :], o_k, s_n, s_t, s_v, s_c, P
        )
        # [BF, BM]
        b_a = tl.load(x + offsets, mask=m_seen[None, :] & (o_f < K)[:, None], other=0.0).to(ACC)
        o_one = tl.where(m_hidden, K + 1, K)  # the feature of bias or mask token
        o_which = tl.where(m_patch, K + 2 + o_v, K + 2 + V + o_j)  # the feature of joint or prefix
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
    "bias": "fp32",
    "mask_token": "fp32",
    "joints": "fp32",
    "prefix": "fp32",
    "out": "S",
    "grad": "S",
    "parts": "fp32",
}
_STRIDES = {"s_n": "i64", "s_t": "i64", "s_v": "i64", "s_c": "i64"}
_SCALARS = {
    "total": "i32",
    "span": "i32",
    "start": "i64",
    "clips": "i32",
    "steps": "i32",
    **_STRIDES,
}
KERNELS = {
    "embed": KernelSpec(embed_kernel, _TYPES, (WIDTHS,), _variants, _SCALARS),
    "embed_backward": KernelSpec(
        embed_backward_kernel, _TYPES, (WIDTHS,), _backward_variants, _SCALARS
    ),
}
