"""norm_linear and linear_residual as ops of a Triton kernel: launches, fakes, backwards, autocast
and FLOPs.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from slim_kernels.linear.triton_kernels import linear_kernel
from slim_kernels.runtime.launch import launch
from slim_kernels.runtime.registration import cast_under_autocast, count_flops, kernel_op
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
    grad: Tensor, x: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, gamma, beta, weight and bias. The two products are cuBLAS's: fused with the
    norm's gradient the first one needs more registers than there are for blocks of rows that use
    the weight well.
    """
    x = x.contiguous()
    normed = weight.new_empty(x.shape)
    grad_x, grad_gamma, grad_beta = norm_gradients(grad @ weight, x, gamma, beta, eps, None, normed)
    return grad_x, grad_gamma, grad_beta, grad.t() @ normed, grad.sum(0).to(bias.dtype)


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
def linear_residual_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias: three plain products and sums, which cuBLAS and PyTorch do
    well.
    """
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
count_flops(norm_linear, lambda x, gamma, beta, weight, *_: _product_flops(x, weight))
count_flops(
    norm_linear_backward, lambda grad, x, gamma, beta, weight, *_: 2 * _product_flops(x, weight)
)
count_flops(linear_residual, lambda x, weight, *_: _product_flops(x, weight))
count_flops(linear_residual_backward, lambda grad, x, weight, *_: 2 * _product_flops(x, weight))
