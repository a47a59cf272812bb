"""norm_swiglu as an op of Triton kernels: its launches, fake, backward, autocast and FLOPs."""

from typing import Any

import torch
import triton
from torch import Tensor

from slim_kernels.feed_forward.triton_kernels import (
    norm_swiglu_backward_kernel,
    norm_swiglu_kernel,
)
from slim_kernels.runtime.launch import launch
from slim_kernels.runtime.registration import cast_under_autocast, count_flops, kernel_op
from slim_kernels.runtime.triton_layer_norm import exact, norm_gradients
from slim_kernels.runtime.triton_rows import padded


@kernel_op("slim_kernels::norm_swiglu")
def norm_swiglu(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    w12: Tensor,
    b12: Tensor,
    w3: Tensor,
    b3: Tensor,
    eps: float,
) -> Tensor:
    """(rows, D) in x's dtype."""
    (rows, width), hidden = x.shape, w3.shape[1]
    gamma, beta, b12, b3 = exact(gamma, beta, b12, b3)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    tile = launch("norm_swiglu", x.device, width)
    if rows:
        norm_swiglu_kernel[triton.cdiv(rows, tile["BM"]),](
            x.contiguous(),
            gamma,
            beta,
            w12.contiguous(),
            b12,
            w3.contiguous(),
            b3,
            out,
            rows,
            eps,
            D=width,
            F=hidden,
            DP=padded(width),
            PRECISION="ieee",
            **tile,
        )
    return out


@norm_swiglu.register_fake
def _(x: Tensor, *_others: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@kernel_op("slim_kernels::norm_swiglu_backward")
def norm_swiglu_backward(
    grad: Tensor,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    w12: Tensor,
    b12: Tensor,
    w3: Tensor,
    b3: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, gamma, beta, w12, b12, w3 and b3."""
    grad, x, w12, w3 = grad.contiguous(), x.contiguous(), w12.contiguous(), w3.contiguous()
    (rows, width), hidden = x.shape, w3.shape[1]
    wide_gamma, wide_beta, wide_b12 = exact(gamma, beta, b12)
    tile = launch("norm_swiglu_backward", x.device, width)
    programs = triton.cdiv(rows, tile["BM"])
    normed, product, grad_hidden = (
        w12.new_empty(rows, size) for size in (width, hidden, 2 * hidden)
    )
    parts = wide_gamma.new_empty(programs, 2 * hidden)
    if programs:
        norm_swiglu_backward_kernel[programs,](
            grad,
            x,
            wide_gamma,
            wide_beta,
            w12,
            wide_b12,
            w3,
            normed,
            product,
            grad_hidden,
            parts,
            rows,
            eps,
            D=width,
            F=hidden,
            DP=padded(width),
            PRECISION="ieee",
            **tile,
        )
    grad_x, grad_gamma, grad_beta = norm_gradients(
        grad_hidden @ w12, x, gamma, beta, eps, grad, None
    )
    return (
        grad_x,
        grad_gamma,
        grad_beta,
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


count_flops(
    norm_swiglu, lambda x, gamma, beta, w12, b12, w3, *_: 2 * len(x) * (w12.numel() + w3.numel())
)


# The hidden layer again (w12), its gradient (w3), the rows' (w12) and the two weights' own (w12,
# w3).
count_flops(
    norm_swiglu_backward,
    lambda g, x, gamma, beta, w12, b12, w3, *_: 2 * len(x) * (3 * w12.numel() + 2 * w3.numel()),
)
