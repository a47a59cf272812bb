"""norm_linear and linear_residual as Triton kernels: a block of rows stays on chip while the weight's rows go by."""

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from slim_kernels.launch import Shipped, launch
from slim_kernels.norm_triton import exact, norm_gradients
from slim_kernels.registration import cast_under_autocast, count_flops, kernel_op
from slim_kernels.rows_triton import PADDED, load_feature, load_rows, padded, standardised


@triton.jit(do_not_specialize=["rows", "eps"])
def linear_kernel(
    x, gain, shift, weight, bias, residual, out, rows, eps,
    D: tl.constexpr, E: tl.constexpr, DP: tl.constexpr, NORM: tl.constexpr, RESIDUAL: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out (rows, E) = [residual +] [LayerNorm of] x (rows, D) · weightᵀ + bias."""
    i_m = tl.program_id(0)
    ACC: tl.constexpr = bias.dtype.element_ty
    TYPE: tl.constexpr = weight.dtype.element_ty
    o_m, o_d = tl.arange(0, BM), tl.arange(0, DP)
    m_m = i_m * BM + o_m < rows
    begin = (i_m * BM).to(tl.int64) * E
    b_x = load_rows(x, i_m * BM, m_m, D, DP, BM).to(ACC)
    if NORM:
        b_x, _ = standardised(b_x, eps, D, DP)
        b_x = b_x * load_feature(gain, D, DP) + load_feature(shift, D, DP)
    b_x = b_x.to(TYPE)
    for first in range(0, E, BN):
        o_e = first + tl.arange(0, BN)
        m_e = o_e < E
        place = o_e[None, :] * D + o_d[:, None]
        b_w = tl.load(weight + place, mask=m_e[None, :] & (o_d < D)[:, None], other=0.0)  # [DP, BN]
        b_y = tl.dot(b_x, b_w, input_precision=PRECISION, out_dtype=ACC)
        b_y += tl.load(bias + o_e, mask=m_e, other=0.0)[None, :]
        place = begin + (o_m[:, None] * E + o_e[None, :])
        m_y = m_m[:, None] & m_e[None, :]
        if RESIDUAL:
            b_y += tl.load(residual + place, mask=m_y, other=0.0).to(ACC)
        tl.store(out + place, b_y.to(out.dtype.element_ty), mask=m_y)


def _variants(width: int) -> Iterator[dict[str, Any]]:
    sizes = {"D": width, "E": 768, "DP": width, "PRECISION": "ieee"}
    yield {**sizes, "NORM": True, "RESIDUAL": False, "out": "T"}
    yield {**sizes, "NORM": False, "RESIDUAL": True, "x": "T"}


_TYPES = {"x": "S", "gain": "fp32", "shift": "fp32", "weight": "T", "bias": "fp32", "residual": "S", "out": "S"}
SHIPPED = {
    "linear": Shipped(linear_kernel, _TYPES, (PADDED,), _variants, {"rows": "i32", "eps": "fp32"}),
}


def _run_linear(
    x: Tensor, gain: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, residual: Tensor, out: Tensor, eps: float,
    norm: bool, add: bool,
) -> Tensor:  # fmt: skip
    (rows, width), features = x.shape, len(weight)
    gain, shift, bias = exact(gain, shift, bias)
    tile = launch("linear", x.device, width)
    if rows and features:
        linear_kernel[triton.cdiv(rows, tile["BM"]),](
            x.contiguous(), gain, shift, weight.contiguous(), bias, residual.contiguous(), out, rows, eps,
            D=width, E=features, DP=padded(width), NORM=norm, RESIDUAL=add, PRECISION="ieee", **tile,
        )  # fmt: skip
    return out


@kernel_op("slim_kernels::norm_linear")
def norm_linear(x: Tensor, gain: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(rows, E) in the weight's dtype."""
    out = weight.new_empty(len(x), len(weight))
    return _run_linear(x, gain, shift, weight, bias, x, out, eps, True, False)


@norm_linear.register_fake
def _(x: Tensor, gain: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return weight.new_empty(x.shape[0], weight.shape[0])


@kernel_op("slim_kernels::norm_linear_backward")
def norm_linear_backward(
    grad: Tensor, x: Tensor, gain: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, gain, shift, weight and bias. The two products are cuBLAS's: fused with the norm's gradient the
    first one needs more registers than there are for blocks of rows that use the weight well.
    """
    x = x.contiguous()
    normed = weight.new_empty(x.shape)
    grad_x, grad_gain, grad_shift = norm_gradients(grad @ weight, x, gain, shift, eps, None, normed)
    return grad_x, grad_gain, grad_shift, grad.t() @ normed, grad.sum(0).to(bias.dtype)


@norm_linear_backward.register_fake
def _(grad: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(v, memory_format=torch.contiguous_format) for v in inputs[:-1])


@kernel_op("slim_kernels::linear_residual")
def linear_residual(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """(rows, E) in the residual's dtype."""
    out = torch.empty_like(residual, memory_format=torch.contiguous_format)
    return _run_linear(x, bias, bias, weight, bias, residual, out, 0.0, False, True)


@linear_residual.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    return torch.empty_like(residual, memory_format=torch.contiguous_format)


@kernel_op("slim_kernels::linear_residual_backward")
def linear_residual_backward(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias: three plain products and sums, which cuBLAS and PyTorch do well."""
    low = grad.to(weight.dtype)
    return (low @ weight).to(x.dtype), low.t() @ x.to(weight.dtype), grad.sum(0).to(bias.dtype)


@linear_residual_backward.register_fake
def _(grad: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(v, memory_format=torch.contiguous_format) for v in inputs)


def _setup_norm(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:-1])
    ctx.eps = inputs[-1]


def _norm_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*norm_linear_backward(grad, *ctx.saved_tensors, ctx.eps), None)


def _setup_residual(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:-1])


def _residual_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    return (*linear_residual_backward(grad, *ctx.saved_tensors), grad)


def _product_flops(x: Tensor, weight: Tensor) -> int:
    return 2 * len(x) * weight.numel()


norm_linear.register_autograd(_norm_gradients, setup_context=_setup_norm)
linear_residual.register_autograd(_residual_gradients, setup_context=_setup_residual)
cast_under_autocast(norm_linear, "weight")
cast_under_autocast(linear_residual, "x", "weight")
count_flops(norm_linear, lambda x, gain, shift, weight, *_: _product_flops(x, weight))
count_flops(norm_linear_backward, lambda grad, x, gain, shift, weight, *_: 2 * _product_flops(x, weight))
count_flops(linear_residual, lambda x, weight, *_: _product_flops(x, weight))
count_flops(linear_residual_backward, lambda grad, x, weight, *_: 2 * _product_flops(x, weight))
