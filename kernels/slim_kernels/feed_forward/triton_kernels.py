"""norm_swiglu as Triton kernels: the hidden layer is made and used up in chunks that never leave
the chip.
"""

from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl

from slim_kernels.runtime.launch import KernelSpec
from slim_kernels.runtime.triton_rows import (
    WIDTHS,
    load_feature,
    load_rows,
    padded,
    standardised,
    store_rows,
)


@triton.jit
def load_hidden_rows(
    w12, b12, o_f, D: tl.constexpr, F: tl.constexpr, DP: tl.constexpr, PART: tl.constexpr
):
    """Gate's (PART 0) or value's (1) weights of some hidden features, transposed [DP, BF], and
    biases [1, BF].
    """
    o_d, m_f = tl.arange(0, DP), o_f < F
    offsets = (PART * F + o_f)[None, :] * D + o_d[:, None]
    mask = m_f[None, :] if D == DP else m_f[None, :] & (o_d < D)[:, None]
    return tl.load(w12 + offsets, mask=mask, other=0.0), tl.load(
        b12 + PART * F + o_f, mask=m_f, other=0.0
    )[None, :]


@triton.jit
def half(b, RIGHT: tl.constexpr):
    """The left or the right half of a block's columns."""
    b_left, b_right = tl.split(
        tl.permute(tl.reshape(b, [b.shape[0], 2, b.shape[1] // 2]), (0, 2, 1))
    )
    return b_right if RIGHT else b_left


@triton.jit
def sigmoid(b):
    return 1.0 / (1.0 + tl.exp(-b))


@triton.jit(do_not_specialize=["rows", "eps"])
def norm_swiglu_kernel(
    x,
    gamma,
    beta,
    w12,
    b12,
    w3,
    b3,
    out,
    rows,
    eps,
    D: tl.constexpr,
    F: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
    BF: tl.constexpr,
    EARLY: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """out = x + w3 (silu(gate) · value) + b3, gate and value the halves of w12 LayerNorm(x) + b12.

    EARLY: 1, the sum starts with x + b3; 0, they are added at the end; 2, at the end a quarter of
    the features at a time, whose rows of x need a quarter of the registers. Which fits differs.
    """
    i_m = tl.program_id(0)
    ACC: tl.constexpr = gamma.dtype.element_ty
    TYPE: tl.constexpr = w12.dtype.element_ty
    o_m, o_d = tl.arange(0, BM), tl.arange(0, DP)
    m_m = i_m * BM + o_m < rows
    b_x = load_rows(x, i_m * BM, m_m, D, DP, BM).to(ACC)
    b_hat, _ = standardised(b_x, eps, D, DP)
    b_n = (b_hat * load_feature(gamma, D, DP) + load_feature(beta, D, DP)).to(TYPE)
    b_out = b_x + load_feature(b3, D, DP) if EARLY == 1 else tl.zeros([BM, DP], ACC)
    for first in range(0, F, BF):
        o_f = first + tl.arange(0, BF)
        b_wg, b_bg = load_hidden_rows(w12, b12, o_f, D, F, DP, 0)
        b_g = tl.dot(b_n, b_wg, input_precision=PRECISION, out_dtype=ACC) + b_bg  # [BM, BF]
        b_wv, b_bv = load_hidden_rows(w12, b12, o_f, D, F, DP, 1)
        b_v = tl.dot(b_n, b_wv, input_precision=PRECISION, out_dtype=ACC) + b_bv
        offsets = o_d[None, :] * F + o_f[:, None]
        # [BF, DP]
        b_w3 = tl.load(w3 + offsets, mask=(o_f < F)[:, None] & (o_d < D)[None, :], other=0.0)
        b_u = (b_g * sigmoid(b_g) * b_v).to(TYPE)
        b_out += tl.dot(b_u, b_w3, input_precision=PRECISION, out_dtype=ACC)
    if EARLY == 2:
        for part in tl.static_range(4):
            b_y = half(half(b_out, part // 2), part % 2)
            o_y = part * (DP // 4) + tl.arange(0, DP // 4)
            offsets = (i_m * BM).to(tl.int64) * D + (o_m[:, None] * D + o_y[None, :])
            m_y = m_m[:, None] & (o_y < D)[None, :]
            b_y += tl.load(x + offsets, mask=m_y, other=0.0).to(ACC)
            b_y += tl.load(b3 + o_y, mask=o_y < D, other=0.0)[None, :]
            tl.store(out + offsets, b_y.to(out.dtype.element_ty), mask=m_y)
    else:
        if EARLY == 0:
            b_out += load_rows(x, i_m * BM, m_m, D, DP, BM).to(ACC) + load_feature(b3, D, DP)
        store_rows(out, b_out, i_m * BM, m_m, D, DP, BM)


@triton.jit(do_not_specialize=["rows", "eps"])
def norm_swiglu_backward_kernel(
    grad,
    x,
    gamma,
    beta,
    w12,
    b12,
    w3,
    low,
    normed,
    product,
    grad_hidden,
    parts,
    rows,
    eps,
    D: tl.constexpr,
    F: tl.constexpr,
    DP: tl.constexpr,
    BM: tl.constexpr,
    BF: tl.constexpr,
    PRODUCT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """What the gradients' products need: normed (rows, D), grad_hidden (rows, 2 F), if wished
    product (rows, F), grad in the weights' dtype as low (rows, D), if it has another, and in parts
    (programs, 2 F + D) this program's shares of b12's and b3's gradients. The hidden layer is
    computed again from x.
    """
    i_m = tl.program_id(0)
    ACC: tl.constexpr = gamma.dtype.element_ty
    TYPE: tl.constexpr = w12.dtype.element_ty
    o_m, o_d = tl.arange(0, BM), tl.arange(0, DP)
    m_m = i_m * BM + o_m < rows
    b_hat, _ = standardised(load_rows(x, i_m * BM, m_m, D, DP, BM).to(ACC), eps, D, DP)
    b_n = (b_hat * load_feature(gamma, D, DP) + load_feature(beta, D, DP)).to(TYPE)
    begin = (i_m * BM).to(tl.int64)
    store_rows(normed, b_n, i_m * BM, m_m, D, DP, BM)
    parts += i_m.to(tl.int64) * (2 * F + D)
    b_go = load_rows(grad, i_m * BM, m_m, D, DP, BM)
    tl.store(parts + 2 * F + o_d, tl.sum(b_go.to(ACC), 0), mask=o_d < D)
    b_go = b_go.to(TYPE)
    if grad.dtype.element_ty != TYPE:
        store_rows(low, b_go, i_m * BM, m_m, D, DP, BM)
    for first in range(0, F, BF):
        o_f = first + tl.arange(0, BF)
        m_f = o_f < F
        m_h = m_m[:, None] & m_f[None, :]
        b_wg, b_bg = load_hidden_rows(w12, b12, o_f, D, F, DP, 0)
        b_wv, b_bv = load_hidden_rows(w12, b12, o_f, D, F, DP, 1)
        b_g = tl.dot(b_n, b_wg, input_precision=PRECISION, out_dtype=ACC) + b_bg  # [BM, BF]
        b_v = tl.dot(b_n, b_wv, input_precision=PRECISION, out_dtype=ACC) + b_bv
        offsets = o_d[:, None] * F + o_f[None, :]
        b_w3 = tl.load(w3 + offsets, mask=(o_d < D)[:, None] & m_f[None, :], other=0.0)  # [DP, BF]
        b_du = tl.dot(b_go, b_w3, input_precision=PRECISION, out_dtype=ACC)  # [BM, BF]
        b_sig = sigmoid(b_g)
        b_silu = b_g * b_sig
        b_dv = b_du * b_silu
        b_dg = b_du * b_v * b_sig * (1.0 + b_g * (1.0 - b_sig))
        if PRODUCT:
            offsets = begin * F + (o_m[:, None] * F + o_f[None, :])
            tl.store(product + offsets, (b_silu * b_v).to(TYPE), mask=m_h)
        offsets = begin * (2 * F) + (o_m[:, None] * (2 * F) + o_f[None, :])
        tl.store(grad_hidden + offsets, b_dg.to(TYPE), mask=m_h)
        tl.store(grad_hidden + offsets + F, b_dv.to(TYPE), mask=m_h)
        tl.store(parts + o_f, tl.sum(b_dg, 0), mask=m_f)
        tl.store(parts + F + o_f, tl.sum(b_dv, 0), mask=m_f)


def _variants(width: int) -> Iterator[dict[str, Any]]:
    yield {"D": width, "F": 688, "DP": padded(width), "PRECISION": "ieee"}


def _backward_variants(width: int) -> Iterator[dict[str, Any]]:
    for product in (True, False):
        yield from ({**variant, "PRODUCT": product} for variant in _variants(width))


_INPUTS = {
    "x": "S",
    "gamma": "fp32",
    "beta": "fp32",
    "w12": "T",
    "b12": "fp32",
    "w3": "T",
    "b3": "fp32",
    "out": "S",
}
_GRADIENTS = {
    "grad": "S",
    "low": "T",
    "normed": "T",
    "product": "T",
    "grad_hidden": "T",
    "parts": "fp32",
}
_SCALARS = {"rows": "i32", "eps": "fp32"}
KERNELS = {
    "norm_swiglu": KernelSpec(norm_swiglu_kernel, _INPUTS, (WIDTHS,), _variants, _SCALARS),
    "norm_swiglu_backward": KernelSpec(
        norm_swiglu_backward_kernel,
        {**_INPUTS, **_GRADIENTS},
        (WIDTHS,),
        _backward_variants,
        _SCALARS,
    ),
}
