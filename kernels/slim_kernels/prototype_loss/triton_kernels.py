"""prototype_loss as Triton kernels: every pass is flash attention between features and prototypes.

attend: Σ_k softmax_k(x_i · y_k / τ + bias_k) v_k and the log of the softmax's denominator;
log_sum_exp: the latter alone. With the roles of rows and columns swapped and a normaliser as bias
they give Sinkhorn's half-iterations, the expected prototypes and the gradients, so the N×K logits
are never in memory. A few rows are spread over more programs by splitting the columns; the splits'
partial results are combined by their log-sum-exp, in a fixed order.
"""

from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl

from slim_kernels.runtime.launch import KernelSpec
from slim_kernels.runtime.triton_rows import WIDTHS, load_rows, padded, store_rows

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def load_columns(y, first, m_n, D: tl.constexpr, DP: tl.constexpr, BN: tl.constexpr):
    """BN rows of y from `first` on as columns, zeros where masked: [DP, BN]."""
    o_d, o_n = tl.arange(0, DP), tl.arange(0, BN)
    offsets = tl.cast(first, tl.int64) * D + (o_n[None, :] * D + o_d[:, None])
    return tl.load(y + offsets, mask=m_n[None, :] & (o_d < D)[:, None], other=0.0)


@triton.jit
def scores(b_x, b_y, bias, first, m_n, scale, BN: tl.constexpr, ACC, BIAS, PRECISION: tl.constexpr):
    """(x · y / τ + bias) in powers of two, of columns y [DP, BN] from `first` on, -inf where
    masked: [BM, BN].
    """
    b_s = tl.dot(b_x, b_y, input_precision=PRECISION, out_dtype=ACC) * scale
    if BIAS:
        b_s += (tl.load(bias + first + tl.arange(0, BN), mask=m_n, other=0.0) * LOG2E)[None, :]
    return tl.where(m_n[None, :], b_s, float("-inf"))


@triton.jit
def raise_maximum(b_max, b_s, AXIS: tl.constexpr):
    """The new maximum along an axis, and the one to subtract: never -inf, which would give -inf -
    -inf.
    """
    b_new = tl.maximum(b_max, tl.max(b_s, AXIS))
    return b_new, tl.where(b_new == float("-inf"), 0.0, b_new)


@triton.jit(do_not_specialize=["rows", "columns", "span", "scale"])
def log_sum_exp_kernel(
    x,
    y,
    bias,
    lse,
    rows,
    columns,
    span,
    scale,
    D: tl.constexpr,
    DP: tl.constexpr,
    BIAS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """lse (splits, rows) = log Σ exp(x · y / τ + bias) over this split's `span` columns."""
    i_m, i_p = tl.program_id(0), tl.program_id(1)
    ACC: tl.constexpr = lse.dtype.element_ty
    o_m = i_m * BM + tl.arange(0, BM)
    m_m = o_m < rows
    b_x = load_rows(x, i_m * BM, m_m, D, DP, BM)
    b_max, b_sum = tl.full([BM], float("-inf"), ACC), tl.zeros([BM], ACC)
    end = tl.minimum((i_p + 1) * span, columns)
    for first in range(i_p * span, end, BN):
        m_n = first + tl.arange(0, BN) < end
        b_y = load_columns(y, first, m_n, D, DP, BN)
        b_s = scores(b_x, b_y, bias, first, m_n, scale, BN, ACC, BIAS, PRECISION)
        b_new, b_off = raise_maximum(b_max, b_s, 1)
        b_sum = b_sum * tl.exp2(b_max - b_off) + tl.sum(tl.exp2(b_s - b_off[:, None]), 1)
        b_max = b_new
    tl.store(lse + i_p.to(tl.int64) * rows + o_m, (b_max + tl.log2(b_sum)) / LOG2E, mask=m_m)


@triton.jit(do_not_specialize=["rows", "columns", "span", "scale"])
def attend_kernel(
    x,
    y,
    v,
    bias,
    out,
    lse,
    rows,
    columns,
    span,
    scale,
    D: tl.constexpr,
    DP: tl.constexpr,
    BIAS: tl.constexpr,
    SAME: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """out (splits, rows, D), the softmax's mean of v over this split's columns, and lse (splits,
    rows). SAME: v is y, whose tile is loaded once.
    """
    i_m, i_p = tl.program_id(0), tl.program_id(1)
    ACC: tl.constexpr = lse.dtype.element_ty
    o_m = i_m * BM + tl.arange(0, BM)
    m_m = o_m < rows
    b_x = load_rows(x, i_m * BM, m_m, D, DP, BM)
    b_max, b_sum = tl.full([BM], float("-inf"), ACC), tl.zeros([BM], ACC)
    b_out = tl.zeros([BM, DP], ACC)
    end = tl.minimum((i_p + 1) * span, columns)
    for first in range(i_p * span, end, BN):
        m_n = first + tl.arange(0, BN) < end
        if SAME:
            b_v = load_rows(v, first, m_n, D, DP, BN)  # [BN, DP]
            b_y = tl.trans(b_v)
        else:
            b_y = load_columns(y, first, m_n, D, DP, BN)
        b_s = scores(b_x, b_y, bias, first, m_n, scale, BN, ACC, BIAS, PRECISION)
        b_new, b_off = raise_maximum(b_max, b_s, 1)
        b_shrink, b_p = tl.exp2(b_max - b_off), tl.exp2(b_s - b_off[:, None])
        b_sum = b_sum * b_shrink + tl.sum(b_p, 1)
        if not SAME:
            b_v = load_rows(v, first, m_n, D, DP, BN)
        b_out = b_out * b_shrink[:, None]
        b_out += tl.dot(b_p.to(b_v.dtype), b_v, input_precision=PRECISION, out_dtype=ACC)
        b_max = b_new
    b_out = b_out / tl.where(b_sum > 0, b_sum, 1.0)[:, None]
    store_rows(out + i_p.to(tl.int64) * rows * D, b_out, i_m * BM, m_m, D, DP, BM)
    tl.store(lse + i_p.to(tl.int64) * rows + o_m, (b_max + tl.log2(b_sum)) / LOG2E, mask=m_m)


@triton.jit(do_not_specialize=["divisor"])
def segment_sum_kernel(values, order, bounds, divisor, out, D: tl.constexpr, DP: tl.constexpr):
    """out[n] = Σ values[order[j] // divisor] over j from bounds[n] to bounds[n + 1], one program a
    row.
    """
    i_n = tl.program_id(0)
    o_d = tl.arange(0, DP)
    b_sum = tl.zeros([DP], out.dtype.element_ty)
    for j in range(tl.load(bounds + i_n), tl.load(bounds + i_n + 1)):
        row = tl.load(order + j) // divisor
        b_sum += tl.load(values + row * D + o_d, mask=o_d < D, other=0.0)
    tl.store(out + i_n.to(tl.int64) * D + o_d, b_sum, mask=o_d < D)


def _variants(width: int) -> Iterator[dict[str, Any]]:
    for bias in (True, False):
        kind = "fp32" if bias else "T"
        yield {"D": width, "DP": padded(width), "BIAS": bias, "PRECISION": "ieee", "bias": kind}


def _attend_variants(width: int) -> Iterator[dict[str, Any]]:
    """The student's own prototypes are keys and values, without a bias."""
    yield from ({**variant, "SAME": not variant["BIAS"]} for variant in _variants(width))


_TYPES = {"x": "T", "y": "T", "v": "T", "bias": "fp32", "out": "fp32", "lse": "fp32"}
_SCALARS = {"rows": "i32", "columns": "i32", "span": "i32", "scale": "fp32"}
KERNELS = {
    "attend": KernelSpec(
        attend_kernel, _TYPES, (WIDTHS,), _attend_variants, _SCALARS, ("T",), ("fp16",)
    ),
    "log_sum_exp": KernelSpec(
        log_sum_exp_kernel, _TYPES, (WIDTHS,), _variants, _SCALARS, ("T",), ("fp16",)
    ),
    "segment_sum": KernelSpec(
        segment_sum_kernel,
        {"values": "fp32", "order": "i64", "bounds": "i64", "out": "fp32"},
        (WIDTHS,),
        lambda width: iter([{"D": width, "DP": padded(width)}]),
        {"divisor": "i32"},
        ("T",),
        ("fp16",),
        matrix=False,
    ),
}
