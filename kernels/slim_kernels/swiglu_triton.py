"""norm_swiglu as Triton kernels: the hidden layer is made and used up in chunks that never leave the chip."""

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from slim_kernels.launch import Shipped, launch
from slim_kernels.norm_triton import exact, norm_gradients
from slim_kernels.registration import cast_under_autocast, count_flops, kernel_op
from slim_kernels.rows_triton import PADDED, load_feature, load_rows, padded, standardised, store_rows


@triton.jit
def load_hidden_rows(w12, b12, o_f, D: tl.constexpr, F: tl.constexpr, DP: tl.constexpr, PART: tl.constexpr):
    """Gate's (PART 0) or value's (1) weights of some hidden features, transposed [DP, BF], and biases [1, BF]."""
    o_d, m_f = tl.arange(0, DP), o_f < F
    place = (PART * F + o_f)[None, :] * D + o_d[:, None]
    mask = m_f[None, :] if D == DP else m_f[None, :] & (o_d < D)[:, None]
    return tl.load(w12 + place, mask=mask, other=0.0), tl.load(b12 + PART * F + o_f, mask=m_f, other=0.0)[None, :]


@triton.jit
def sigmoid(b):
    return 1.0 / (1.0 + tl.exp(-b))


@triton.jit(do_not_specialize=["rows", "eps"])
def norm_swiglu_kernel(
    x, gain, shift, w12, b12, w3, b3, out, rows, eps,
    D: tl.constexpr, F: tl.constexpr, DP: tl.constexpr, BM: tl.constexpr, BF: tl.constexpr, EARLY: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """out = x + w3 (silu(gate) · value) + b3, gate and value the halves of w12 LayerNorm(x) + b12.

    EARLY: the sum starts with x + b3; else they are added at the end. Which fits the registers differs.
    """
    i_m = tl.program_id(0)
    ACC: tl.constexpr = gain.dtype.element_ty
    TYPE: tl.constexpr = w12.dtype.element_ty
    o_m, o_d = tl.arange(0, BM), tl.arange(0, DP)
    m_m = i_m * BM + o_m < rows
    b_x = load_rows(x, i_m * BM, m_m, D, DP, BM).to(ACC)
    b_hat, _ = standardised(b_x, eps, D, DP)
    b_n = (b_hat * load_feature(gain, D, DP) + load_feature(shift, D, DP)).to(TYPE)
    b_out = b_x + load_feature(b3, D, DP) if EARLY else tl.zeros([BM, DP], ACC)
    for first in range(0, F, BF):
        o_f = first + tl.arange(0, BF)
        b_wg, b_bg = load_hidden_rows(w12, b12, o_f, D, F, DP, 0)
        b_g = tl.dot(b_n, b_wg, input_precision=PRECISION, out_dtype=ACC) + b_bg  # [BM, BF]
        b_wv, b_bv = load_hidden_rows(w12, b12, o_f, D, F, DP, 1)
        b_v = tl.dot(b_n, b_wv, input_precision=PRECISION, out_dtype=ACC) + b_bv
        place = o_d[None, :] * F + o_f[:, None]
        b_w3 = tl.load(w3 + place, mask=(o_f < F)[:, None] & (o_d < D)[None, :], other=0.0)  # [BF, DP]
        b_u = (b_g * sigmoid(b_g) * b_v).to(TYPE)
        b_out += tl.dot(b_u, b_w3, input_precision=PRECISION, out_dtype=ACC)
    if not EARLY:
        b_out += load_rows(x, i_m * BM, m_m, D, DP, BM).to(ACC) + load_feature(b3, D, DP)
    store_rows(out, b_out, i_m * BM, m_m, D, DP, BM)


@triton.jit(do_not_specialize=["rows", "eps"])
def norm_swiglu_backward_kernel(
    grad, x, gain, shift, w12, b12, w3, normed, product, grad_hidden, parts, rows, eps,
    D: tl.constexpr, F: tl.constexpr, DP: tl.constexpr, BM: tl.constexpr, BF: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """What the gradients' products need: normed (rows, D), product (rows, F), grad_hidden (rows, 2 F), and in parts
    (programs, 2 F) this program's share of b12's. The hidden layer is computed again from x.
    """
    i_m = tl.program_id(0)
    ACC: tl.constexpr = gain.dtype.element_ty
    TYPE: tl.constexpr = w12.dtype.element_ty
    o_m, o_d = tl.arange(0, BM), tl.arange(0, DP)
    m_m = i_m * BM + o_m < rows
    b_hat, _ = standardised(load_rows(x, i_m * BM, m_m, D, DP, BM).to(ACC), eps, D, DP)
    b_n = (b_hat * load_feature(gain, D, DP) + load_feature(shift, D, DP)).to(TYPE)
    begin = (i_m * BM).to(tl.int64)
    store_rows(normed, b_n, i_m * BM, m_m, D, DP, BM)
    b_go = load_rows(grad, i_m * BM, m_m, D, DP, BM).to(TYPE)
    for first in range(0, F, BF):
        o_f = first + tl.arange(0, BF)
        m_f = o_f < F
        m_h = m_m[:, None] & m_f[None, :]
        b_wg, b_bg = load_hidden_rows(w12, b12, o_f, D, F, DP, 0)
        b_wv, b_bv = load_hidden_rows(w12, b12, o_f, D, F, DP, 1)
        b_g = tl.dot(b_n, b_wg, input_precision=PRECISION, out_dtype=ACC) + b_bg  # [BM, BF]
        b_v = tl.dot(b_n, b_wv, input_precision=PRECISION, out_dtype=ACC) + b_bv
        place = o_d[:, None] * F + o_f[None, :]
        b_w3 = tl.load(w3 + place, mask=(o_d < D)[:, None] & m_f[None, :], other=0.0)  # [DP, BF]
        b_du = tl.dot(b_go, b_w3, input_precision=PRECISION, out_dtype=ACC)  # [BM, BF]
        b_sig = sigmoid(b_g)
        b_silu = b_g * b_sig
        b_dv = b_du * b_silu
        b_dg = b_du * b_v * b_sig * (1.0 + b_g * (1.0 - b_sig))
        tl.store(product + begin * F + (o_m[:, None] * F + o_f[None, :]), (b_silu * b_v).to(TYPE), mask=m_h)
        place = begin * (2 * F) + (o_m[:, None] * (2 * F) + o_f[None, :])
        tl.store(grad_hidden + place, b_dg.to(TYPE), mask=m_h)
        tl.store(grad_hidden + place + F, b_dv.to(TYPE), mask=m_h)
        place = parts + i_m.to(tl.int64) * (2 * F) + o_f
        tl.store(place, tl.sum(b_dg, 0), mask=m_f)
        tl.store(place + F, tl.sum(b_dv, 0), mask=m_f)


def _variants(width: int) -> Iterator[dict[str, Any]]:
    yield {"D": width, "F": 688, "DP": width, "PRECISION": "ieee"}


_INPUTS = {
    "x": "S", "gain": "fp32", "shift": "fp32", "w12": "T", "b12": "fp32", "w3": "T", "b3": "fp32", "out": "S",
}  # fmt: skip
_GRADIENTS = {
    "grad": "S", "normed": "T", "product": "T", "grad_hidden": "T", "parts": "fp32",
}  # fmt: skip
_SCALARS = {"rows": "i32", "eps": "fp32"}
SHIPPED = {
    "norm_swiglu": Shipped(norm_swiglu_kernel, _INPUTS, (PADDED,), _variants, _SCALARS),
    "norm_swiglu_backward": Shipped(
        norm_swiglu_backward_kernel, {**_INPUTS, **_GRADIENTS}, (PADDED,), _variants, _SCALARS
    ),
}


@kernel_op("slim_kernels::norm_swiglu")
def norm_swiglu(
    x: Tensor, gain: Tensor, shift: Tensor, w12: Tensor, b12: Tensor, w3: Tensor, b3: Tensor, eps: float
) -> Tensor:
    """(rows, D) in x's dtype."""
    (rows, width), hidden = x.shape, w3.shape[1]
    gain, shift, b12, b3 = exact(gain, shift, b12, b3)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    tile = launch("norm_swiglu", x.device, width)
    if rows:
        norm_swiglu_kernel[triton.cdiv(rows, tile["BM"]),](
            x.contiguous(), gain, shift, w12.contiguous(), b12, w3.contiguous(), b3, out, rows, eps,
            D=width, F=hidden, DP=padded(width), PRECISION="ieee", **tile,
        )  # fmt: skip
    return out


@norm_swiglu.register_fake
def _(x: Tensor, *_others: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@kernel_op("slim_kernels::norm_swiglu_backward")
def norm_swiglu_backward(
    grad: Tensor, x: Tensor, gain: Tensor, shift: Tensor, w12: Tensor, b12: Tensor, w3: Tensor, b3: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, gain, shift, w12, b12, w3 and b3."""
    grad, x, w12, w3 = grad.contiguous(), x.contiguous(), w12.contiguous(), w3.contiguous()
    (rows, width), hidden = x.shape, w3.shape[1]
    wide_gain, wide_shift, wide_b12 = exact(gain, shift, b12)
    tile = launch("norm_swiglu_backward", x.device, width)
    programs = triton.cdiv(rows, tile["BM"])
    normed, product, grad_hidden = (w12.new_empty(rows, size) for size in (width, hidden, 2 * hidden))
    parts = wide_gain.new_empty(programs, 2 * hidden)
    if programs:
        norm_swiglu_backward_kernel[programs,](
            grad, x, wide_gain, wide_shift, w12, wide_b12, w3, normed, product, grad_hidden, parts, rows, eps,
            D=width, F=hidden, DP=padded(width), PRECISION="ieee", **tile,
        )  # fmt: skip
    grad_x, grad_gain, grad_shift = norm_gradients(grad_hidden @ w12, x, gain, shift, eps, grad, None)
    return (
        grad_x,
        grad_gain,
        grad_shift,
        grad_hidden.t() @ normed,
        parts.sum(0).to(b12.dtype),
        grad.to(w3.dtype).t() @ product,
        grad.sum(0).to(b3.dtype),
    )


@norm_swiglu_backward.register_fake
def _(grad: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(v, memory_format=torch.contiguous_format) for v in inputs[:-1])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:-1])
    ctx.eps = inputs[-1]


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*norm_swiglu_backward(grad, *ctx.saved_tensors, ctx.eps), None)


norm_swiglu.register_autograd(_gradients, setup_context=_setup)
cast_under_autocast(norm_swiglu, "w12", "w3")
count_flops(norm_swiglu, lambda x, gain, shift, w12, b12, w3, *_: 2 * len(x) * (w12.numel() + w3.numel()))
# The hidden layer again (w12), its gradient (w3), the rows' (w12) and the two weights' own (w12, w3).
count_flops(
    norm_swiglu_backward, lambda g, x, gain, shift, w12, b12, w3, *_: 2 * len(x) * (3 * w12.numel() + 2 * w3.numel())
)
