"""prototype_loss where the logits are stored: sweeps over a matrix of cosines (N, K) in memory.

lse_of_columns, lse_of_rows: log Σ exp(logit / τ + bias), Sinkhorn's half-iterations;
probabilities: the matrix becomes softmaxes, or differences of two, in place.

A sweep is bound by memory, so that a thread keeps to itself: it reads 8 columns at once (16 bytes)
of each of BM rows, and sums of other threads are added behind the loop only. A row's stride is
`groups` times 16 and a split is `span` tiles long, which tells the compiler that whatever a thread
reads begins at a multiple of 16 bytes.
"""

from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl

from slim_kernels.prototype_loss.triton_kernels import LOG2E, raise_maximum
from slim_kernels.runtime.launch import KernelSpec

GROUP = 16
"""Columns of a stored matrix come in multiples of this, of which any beyond K are padding."""
SCALE: tl.constexpr = tl.constexpr(16384.0)
"""2¹⁴ times a probability is stored: float16 keeps 11 bits down to 2⁻²⁸, and 2 · 2¹⁴ fits it."""
_GROUP: tl.constexpr = tl.constexpr(GROUP)
_LANE: tl.constexpr = tl.constexpr(8)  # columns of a thread


@triton.jit
def sweep_offsets(i_m, first, groups, BM: tl.constexpr, BN: tl.constexpr):
    """Of a tile of BM rows and BN columns: where it begins, and offsets from there [BM, BN].

    Where it begins is counted in int64, what is within it in int32.
    """
    o_m, o_n = tl.arange(0, BM), tl.arange(0, BN)
    start = tl.cast(i_m, tl.int64) * (groups * _GROUP) + first
    return start, o_m[:, None] * (groups * _GROUP) + o_n[None, :]


@triton.jit
def load_scores(
    logits,
    bias,
    i_m,
    first,
    m_m,
    columns,
    groups,
    scale,
    ACC,
    BIAS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """(logits / τ + bias) in powers of two, of BM rows from i_m on and BN columns from `first` on,
    -inf where masked: [BM, BN].

    Memory is read up to a row's end, so that the mask does not part what one thread reads.
    """
    start, offsets = sweep_offsets(i_m, first, groups, BM, BN)
    o_n = first + tl.arange(0, BN)
    m_n = o_n < groups * _GROUP
    mask = m_m[:, None] & m_n[None, :]
    b_s = tl.load(logits + start + offsets, mask=mask, other=float("-inf")).to(ACC) * scale
    if BIAS:
        b_s += (tl.load(bias + o_n, mask=m_n, other=0.0) * LOG2E)[None, :]
    return tl.where((o_n < columns)[None, :], b_s, float("-inf"))


@triton.jit(do_not_specialize=["rows", "columns", "groups", "span", "scale"])
def lse_of_columns_kernel(
    logits,
    bias,
    lse,
    rows,
    columns,
    groups,
    span,
    scale,
    BIAS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """lse (splits, columns) = log Σ_i exp(logits_ik / τ + bias_i) over this split's rows."""
    i_n, i_p = tl.program_id(0), tl.program_id(1)
    ACC: tl.constexpr = lse.dtype.element_ty
    o_n = i_n * BN + tl.arange(0, BN)
    b_max, b_sum = tl.full([BN], float("-inf"), ACC), tl.zeros([BN], ACC)
    end = tl.minimum((i_p + 1) * span * BM, rows)
    for first in range(i_p * span * BM, end, BM):
        o_m = first + tl.arange(0, BM)
        b_s = load_scores(
            logits, bias, first, i_n * BN, o_m < end, columns, groups, scale, ACC, False, BM, BN
        )
        if BIAS:
            b_s += (tl.load(bias + o_m, mask=o_m < end, other=0.0) * LOG2E)[:, None]
        b_new, b_off = raise_maximum(b_max, b_s, 0)
        b_sum = b_sum * tl.exp2(b_max - b_off) + tl.sum(tl.exp2(b_s - b_off[None, :]), 0)
        b_max = b_new
    out = lse + i_p.to(tl.int64) * columns + o_n
    tl.store(out, (b_max + tl.log2(b_sum)) / LOG2E, mask=o_n < columns)


@triton.jit(do_not_specialize=["rows", "columns", "groups", "span", "scale"])
def lse_of_rows_kernel(
    logits,
    bias,
    lse,
    rows,
    columns,
    groups,
    span,
    scale,
    BIAS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """lse (splits, rows) = log Σ_k exp(logits_ik / τ + bias_k) over this split's columns.

    Each thread has a maximum and a sum of its own, of the 8 columns that it reads at once.
    """
    i_m, i_p = tl.program_id(0), tl.program_id(1)
    ACC: tl.constexpr = lse.dtype.element_ty
    o_m = i_m * BM + tl.arange(0, BM)
    b_max = tl.full([BM, BN // _LANE], float("-inf"), ACC)
    b_sum = tl.zeros([BM, BN // _LANE], ACC)
    end = tl.minimum((i_p + 1) * span * BN, columns)
    for first in range(i_p * span * BN, end, BN):
        b_s = load_scores(
            logits, bias, i_m * BM, first, o_m < rows, columns, groups, scale, ACC, BIAS, BM, BN
        )
        b_s = tl.reshape(b_s, [BM, BN // _LANE, _LANE])
        b_new, b_off = raise_maximum(b_max, b_s, 2)
        b_sum = b_sum * tl.exp2(b_max - b_off) + tl.sum(tl.exp2(b_s - b_off[:, :, None]), 2)
        b_max = b_new
    b_top, b_off = raise_maximum(tl.full([BM], float("-inf"), ACC), b_max, 1)
    b_total = tl.sum(b_sum * tl.exp2(b_max - b_off[:, None]), 1)
    out = lse + i_p.to(tl.int64) * rows + o_m
    tl.store(out, (b_top + tl.log2(b_total)) / LOG2E, mask=o_m < rows)


@triton.jit(do_not_specialize=["rows", "columns", "groups", "span", "scale", "other_scale"])
def probabilities_kernel(
    logits,
    bias,
    lse,
    other,
    other_lse,
    expected,
    rows,
    columns,
    groups,
    span,
    scale,
    other_scale,
    BIAS: tl.constexpr,
    OTHER: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """logits becomes SCALE · t, t = exp(logits_ik / τ + bias_k - lse_i), padding columns 0.

    OTHER: SCALE · (t - p), p = exp(s_ik - other_lse_i) of logits s = other / τ', and in
    expected (splits, rows) Σ_k t_ik s_ik over this split's columns.
    """
    i_m, i_p = tl.program_id(0), tl.program_id(1)
    ACC: tl.constexpr = lse.dtype.element_ty
    o_m = i_m * BM + tl.arange(0, BM)
    m_m = o_m < rows
    b_lse = tl.load(lse + o_m, mask=m_m, other=0.0) * LOG2E
    if OTHER:
        b_other_lse = tl.load(other_lse + o_m, mask=m_m, other=0.0) * LOG2E
        b_sum = tl.zeros([BM, BN // _LANE], ACC)
    end = tl.minimum((i_p + 1) * span * BN, columns)
    for first in range(i_p * span * BN, end, BN):
        o_n = first + tl.arange(0, BN)
        b_s = load_scores(
            logits, bias, i_m * BM, first, m_m, columns, groups, scale, ACC, BIAS, BM, BN
        )
        b_t = tl.exp2(b_s - b_lse[:, None])
        start, offsets = sweep_offsets(i_m * BM, first, groups, BM, BN)
        mask = m_m[:, None] & (o_n < groups * _GROUP)[None, :]
        if OTHER:
            b_o = tl.load(other + start + offsets, mask=mask, other=0.0).to(ACC) * other_scale
            b_sum += tl.sum(tl.reshape(b_t * b_o, [BM, BN // _LANE, _LANE]), 2)
            b_t -= tl.where((o_n < columns)[None, :], tl.exp2(b_o - b_other_lse[:, None]), 0.0)
        tl.store(logits + start + offsets, (b_t * SCALE).to(logits.dtype.element_ty), mask=mask)
    if OTHER:
        out = expected + i_p.to(tl.int64) * rows + o_m
        tl.store(out, tl.sum(b_sum, 1) / LOG2E, mask=m_m)


def _variants() -> Iterator[dict[str, Any]]:
    yield from ({"BIAS": bias} for bias in (True, False))


_TYPES = {"logits": "T", "bias": "fp32", "lse": "fp32"}
_SCALARS = {"rows": "i32", "columns": "i32", "groups": "i32", "span": "i32", "scale": "fp32"}
_SWEEP: dict[str, Any] = {"streams": ("T",), "dtypes": ("fp16",), "matrix": False}
KERNELS = {
    "lse_of_columns": KernelSpec(lse_of_columns_kernel, _TYPES, (), _variants, _SCALARS, **_SWEEP),
    "lse_of_rows": KernelSpec(lse_of_rows_kernel, _TYPES, (), _variants, _SCALARS, **_SWEEP),
    "probabilities": KernelSpec(
        probabilities_kernel,
        _TYPES | {"other": "T", "other_lse": "fp32", "expected": "fp32"},
        (),
        lambda: iter(
            {"BIAS": bias, "OTHER": other}
            for bias, other in ((True, True), (True, False), (False, False))
        ),
        _SCALARS | {"other_scale": "fp32"},
        **_SWEEP,
    ),
}
