"""The three dense parts of a transformer block around attention, each with its normalisation or residual."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from slim_kernels.block_inference import feed_forward, no_gradient
from slim_kernels.checks import expect_floating, expect_shapes
from slim_kernels.dispatch import product_dtype, triton_wanted, without_autocast
from slim_kernels.products import add_product, linear, product


def _too_wide(width: int) -> str:
    """Why the Triton kernels, which hold whole rows, can't take rows of `width`, or ""."""
    return f"rows of {width} features, more than 256" if width > 256 else ""


def norm_linear(
    x: Tensor, norm_weight: Tensor, norm_bias: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-6
) -> Tensor:
    """LayerNorm, then a linear map: x (total, D), weight (E, D), bias (E,) -> (total, E) in the weight's dtype.

    Raises: ValueError naming the argument that does not fit.
    """
    width = x.shape[-1]
    expect_floating("norm_linear", x=x, norm_weight=norm_weight, norm_bias=norm_bias, weight=weight, bias=bias)
    expect_shapes(
        "norm_linear",
        x=(x, (x.shape[0], width)),
        norm_weight=(norm_weight, (width,)),
        norm_bias=(norm_bias, (width,)),
        weight=(weight, (weight.shape[0], width)),
        bias=(bias, (weight.shape[0],)),
    )
    if triton_wanted("norm_linear", x, product_dtype(weight), _too_wide(width)):
        from slim_kernels import linear_triton  # only where triton is installed

        return linear_triton.norm_linear(x, norm_weight, norm_bias, weight, bias, eps)
    return F.linear(F.layer_norm(x, (width,), norm_weight, norm_bias, eps), weight, bias)


def linear_residual(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """A linear map added to the residual stream: x (total, E), weight (D, E), residual (total, D) -> (total, D).

    Raises: ValueError naming the argument that does not fit.
    """
    expect_floating("linear_residual", x=x, weight=weight, bias=bias, residual=residual)
    expect_shapes(
        "linear_residual",
        x=(x, (x.shape[0], weight.shape[-1])),
        weight=(weight, (weight.shape[0], weight.shape[-1])),
        bias=(bias, (weight.shape[0],)),
        residual=(residual, (x.shape[0], weight.shape[0])),
    )
    if triton_wanted("linear_residual", x, product_dtype(weight), _too_wide(x.shape[-1])):
        from slim_kernels import linear_triton  # only where triton is installed

        return linear_triton.linear_residual(x, weight, bias, residual)
    if x.device.type == "cpu" and not torch.compiler.is_compiling() and no_gradient(x, weight, bias, residual):
        dtype = product_dtype(x)
        with without_autocast(x):
            return residual + linear(*(v.to(dtype) for v in (x, weight, bias)))
    return residual + F.linear(x, weight, bias)


# Numbers of the hidden layer (rows, 2 F) computed at a time: they stay in cache.
_CHUNK_NUMBERS = 1 << 20


class _NormSwiGLU(torch.autograd.Function):
    """norm_swiglu by chunks of rows, so that the hidden layer is read and written in cache; it is kept only before
    SiLU. Matrix products and what they read are in `dtype`, norms and residuals in x's.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        w12: Tensor,
        b12: Tensor,
        w3: Tensor,
        b3: Tensor,
        eps: float,
        dtype: torch.dtype,
    ) -> Tensor:
        w12, b12, w3 = w12.to(dtype), b12.to(dtype), w3.to(dtype)
        normed, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], gamma, beta, eps)
        normed = normed.to(dtype)
        hidden = normed.new_empty(len(x), len(w12))
        out = x + b3
        for rows in _chunks(x, w12):
            hidden[rows] = linear(normed[rows], w12, b12)
            gate, value = hidden[rows].chunk(2, 1)
            add_product(out[rows], F.silu(gate).mul_(value), w3.t())
        ctx.save_for_backward(x, gamma, beta, w12, w3, normed, mean, rstd, hidden)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast("cpu", enabled=False):  # as in the forward, also when called under autocast
            return _swiglu_gradients(ctx, grads[0])


def _swiglu_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, gamma, beta, w12, w3, normed, mean, rstd, hidden = ctx.saved_tensors
    grad = grad.contiguous()
    grad_w12, grad_w3, grad_b12 = (x.new_zeros(shape) for shape in (w12.shape, w3.shape, len(w12)))
    grad_normed = torch.zeros_like(x)
    half = w3.shape[1]
    buffer = torch.empty_like(hidden[next(_chunks(x, w12), slice(0, 0))])
    for rows in _chunks(x, w12):
        gate, value = hidden[rows].chunk(2, 1)
        grad_out, grad_hidden = grad[rows].to(w3.dtype), buffer[: len(gate)]
        silu = F.silu(gate)
        grad_product = product(grad_out, w3)  # (rows, F)
        torch.mul(grad_product, silu, out=grad_hidden[:, half:])
        add_product(grad_w3, grad_out.t(), silu.mul_(value))
        torch.ops.aten.silu_backward(grad_product.mul_(value), gate, grad_input=grad_hidden[:, :half])
        add_product(grad_w12, grad_hidden.t(), normed[rows])
        grad_b12 += grad_hidden.sum(0)
        add_product(grad_normed[rows], grad_hidden, w12)
    grad_x, grad_gamma, grad_beta = torch.ops.aten.native_layer_norm_backward(
        grad_normed, x, x.shape[-1:], mean, rstd, gamma, beta, [True, True, True]
    )
    return grad_x.add_(grad), grad_gamma, grad_beta, grad_w12, grad_b12, grad_w3, grad.sum(0), None, None


def _chunks(x: Tensor, w12: Tensor) -> Any:
    size = max(64, _CHUNK_NUMBERS // max(len(w12), 1))
    return (slice(begin, begin + size) for begin in range(0, len(x), size))


def norm_swiglu(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    w12: Tensor,
    b12: Tensor,
    w3: Tensor,
    b3: Tensor,
    eps: float = 1e-6,
) -> Tensor:
    """x + w3 (SiLU(first half) · second half) of w12 LayerNorm(x): the block's feed-forward with its residual.

    x (total, D), w12 (2 F, D), w3 (D, F) -> (total, D) in x's dtype. On the CPU it runs by chunks of rows, in
    autocast's dtype where that is on.
    Raises: ValueError naming the argument that does not fit.
    """
    width, hidden = x.shape[-1], w3.shape[-1]
    expect_floating("norm_swiglu", x=x, norm_weight=norm_weight, norm_bias=norm_bias, w12=w12, b12=b12, w3=w3, b3=b3)
    expect_shapes(
        "norm_swiglu",
        x=(x, (x.shape[0], width)),
        norm_weight=(norm_weight, (width,)),
        norm_bias=(norm_bias, (width,)),
        w12=(w12, (2 * hidden, width)),
        b12=(b12, (2 * hidden,)),
        w3=(w3, (width, hidden)),
        b3=(b3, (width,)),
    )
    if triton_wanted("norm_swiglu", x, product_dtype(w12), _too_wide(width)):
        from slim_kernels import swiglu_triton  # only where triton is installed

        return swiglu_triton.norm_swiglu(x, norm_weight, norm_bias, w12, b12, w3, b3, eps)
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        dtype = product_dtype(x)
        with without_autocast(x):
            if no_gradient(x, norm_weight, norm_bias, w12, b12, w3, b3):
                (w1, w2), (b1, b2) = w12.to(dtype).chunk(2), b12.to(dtype).chunk(2)
                return feed_forward(x, norm_weight, norm_bias, (w1, w2), (b1, b2), w3.to(dtype), b3.to(dtype), eps)
            out: Tensor = _NormSwiGLU.apply(x, norm_weight, norm_bias, w12, b12, w3, b3, eps, dtype)
        return out
    gate, value = F.linear(F.layer_norm(x, (width,), norm_weight, norm_bias, eps), w12, b12).chunk(2, -1)
    return x + F.linear(F.silu(gate) * value, w3, b3)
