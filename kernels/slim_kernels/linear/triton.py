"""norm_linear and linear_residual as ops of a Triton kernel: launches, fakes, backwards, autocast
and FLOPs.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from slim_kernels.linear.triton_kernels import linear_kernel
from slim_kernels.runtime.dispatch import product_dtype
from slim_kernels.runtime.launch import launch
from slim_kernels.runtime.registration import (
    cast_under_autocast,
    count_flops,
    differentiate,
    empty_gradients,
    kernel_op,
)
from slim_kernels.runtime.triton_layer_norm import exact, norm_gradients
from slim_kernels.runtime.triton_rows import padded


def _run_linear(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor,
    out: Tensor,
    eps: float,
    norm: bool,
    add: bool,
) -> Tensor:
    (rows, width), features = x.shape, len(weight)
    gamma, beta, bias = exact(gamma, beta, bias)
    tile = launch("linear", x.device, width)
    if rows and features:
        linear_kernel[triton.cdiv(rows, tile["BM"]),](
            x.contiguous(),
            gamma,
            beta,
            weight.contiguous(),
            bias,
            residual.contiguous(),
            out,
            rows,
            eps,
            D=width,
            E=features,
            DP=padded(width),
            NORM=norm,
            RESIDUAL=add,
            PRECISION="ieee",
            **tile,
        )
    return out


@kernel_op("slim_kernels::norm_linear")
def norm_linear(
    x: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """(rows, E) in the weight's dtype."""
    out = weight.new_empty(len(x), len(weight))
    return _run_linear(x, gamma, beta, weight, bias, x, out, eps, True, False)


@norm_linear.register_fake
def _(x: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return weight.new_empty(x.shape[0], weight.shape[0])


@kernel_op("slim_kernels::norm_linear_backward")
def norm_linear_backward(
    grad: Tensor,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    weight: Tensor,
    bias: Tensor,
    stream: Tensor | None,
    eps: float,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x [+ stream], gamma, beta, weight and bias; empty where they are not wanted.

    The two products are cuBLAS's: fused with the norm's gradient the first one needs more registers
    than there are for blocks of rows that use the weight well.
    """
    x = x.contiguous()
    found = [x.new_empty(0) for _ in wanted]
    if any(wanted[:4]):
        normed = weight.new_empty(x.shape) if wanted[3] else None
        stream = None if stream is None else stream.contiguous()
        found[:3] = norm_gradients(grad @ weight, x, gamma, beta, eps, stream, normed, wanted[:3])
        if normed is not None:
            found[3] = grad.t() @ normed
    if wanted[4]:
        found[4] = grad.sum(0).to(bias.dtype)
    return tuple(found)  # type: ignore[return-value]


@norm_linear_backward.register_fake
def _(grad: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return empty_gradients(inputs[:5], inputs[-1], grad)


@kernel_op("slim_kernels::linear_residual")
def linear_residual(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """(rows, E) in the residual's dtype."""
    out = torch.empty_like(residual, memory_format=torch.contiguous_format)
    return _run_linear(x, bias, bias, weight, bias, residual, out, 0.0, False, True)


@linear_residual.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    return torch.empty_like(residual, memory_format=torch.contiguous_format)


@kernel_op("slim_kernels::linear_residual_backward")
def linear_residual_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, wanted: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias, empty where they are not wanted: three plain products and
    sums, which cuBLAS and PyTorch do well.
    """
    found = [x.new_empty(0) for _ in wanted]
    if wanted[0] or wanted[1]:
        low = grad.to(weight.dtype)
        if wanted[0]:
            found[0] = (low @ weight).to(x.dtype)
        if wanted[1]:
            found[1] = low.t() @ x.to(weight.dtype)
    if wanted[2]:
        found[2] = grad.sum(0).to(bias.dtype)
    return tuple(found)  # type: ignore[return-value]


@linear_residual_backward.register_fake
def _(grad: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return empty_gradients(inputs[:3], inputs[-1], grad)


def _setup_norm(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:-1])
    ctx.eps = inputs[-1]


def _norm_gradients(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:-1]
    saved = ctx.saved_tensors
    return (*differentiate(norm_linear_backward, wanted, grad, *saved, None, ctx.eps), None)


class _NormLinearAndStream(torch.autograd.Function):
    """norm_linear with x as a second result, which an op may not return."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        _setup_norm(ctx, inputs, inputs[0])
        return norm_linear(*inputs), inputs[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (grad, stream), saved = grads, ctx.saved_tensors
        wanted = ctx.needs_input_grad[:-1]
        if grad is None:
            return stream, *[None] * 5
        return (*differentiate(norm_linear_backward, wanted, grad, *saved, stream, ctx.eps), None)


def norm_linear_and_stream(
    x: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """norm_linear, and x; what comes back along x is added in norm_linear's backward."""
    # what autocast does with the op's argument, where autograd sees it
    weight = weight.to(product_dtype(weight))
    found: tuple[Tensor, Tensor] = _NormLinearAndStream.apply(x, gamma, beta, weight, bias, eps)
    return found


def _setup_residual(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:-1])


def _residual_gradients(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:-1]
    return (*differentiate(linear_residual_backward, wanted, grad, *ctx.saved_tensors), grad)


def _product_flops(x: Tensor, weight: Tensor) -> int:
    return 2 * len(x) * weight.numel()


norm_linear.register_autograd(_norm_gradients, setup_context=_setup_norm)
linear_residual.register_autograd(_residual_gradients, setup_context=_setup_residual)
cast_under_autocast(norm_linear, "weight")
cast_under_autocast(linear_residual, "x", "weight")
count_flops(norm_linear, lambda x, gamma, beta, weight, *_: _product_flops(x, weight))
count_flops(
    norm_linear_backward,
    lambda grad, x, gamma, beta, weight, bias, stream, eps, wanted: (
        (any(wanted[:4]) + wanted[3]) * _product_flops(x, weight)
    ),
)
count_flops(linear_residual, lambda x, weight, *_: _product_flops(x, weight))
count_flops(
    linear_residual_backward,
    lambda grad, x, weight, bias, wanted: (wanted[0] + wanted[1]) * _product_flops(x, weight),
)
