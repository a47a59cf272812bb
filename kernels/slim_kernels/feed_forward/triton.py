"""norm_swiglu as an op of Triton kernels: its launches, fake, backward, autocast and FLOPs."""

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from slim_kernels.feed_forward.triton_kernels import (
    norm_swiglu_backward_kernel,
    norm_swiglu_kernel,
)
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
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, gamma, beta, w12, b12, w3 and b3; empty where they are not wanted."""
    grad, x, w12, w3 = grad.contiguous(), x.contiguous(), w12.contiguous(), w3.contiguous()
    (rows, width), hidden = x.shape, w3.shape[1]
    wide_gamma, wide_beta, wide_b12 = exact(gamma, beta, b12)
    tile = launch("norm_swiglu_backward", x.device, width)
    programs = triton.cdiv(rows, tile["BM"])
    low = grad if grad.dtype == w3.dtype else w3.new_empty(rows, width)
    normed, grad_hidden = w12.new_empty(rows, width), w12.new_empty(rows, 2 * hidden)
    product = w12.new_empty(rows, hidden) if wanted[5] else normed
    parts = wide_gamma.new_empty(programs, 2 * hidden + width)
    if programs:
        norm_swiglu_backward_kernel[programs,](
            grad,
            x,
            wide_gamma,
            wide_beta,
            w12,
            wide_b12,
            w3,
            low,
            normed,
            product,
            grad_hidden,
            parts,
            rows,
            eps,
            D=width,
            F=hidden,
            DP=padded(width),
            PRODUCT=wanted[5],
            PRECISION="ieee",
            **tile,
        )
    found = [x.new_empty(0) for _ in wanted]
    if any(wanted[:3]):
        found[:3] = norm_gradients(grad_hidden @ w12, x, gamma, beta, eps, grad, None, wanted[:3])
    if wanted[3]:
        found[3] = grad_hidden.t() @ normed
    if wanted[4]:
        found[4] = parts[:, : 2 * hidden].sum(0).to(b12.dtype)
    if wanted[5]:
        found[5] = low.t() @ product
    if wanted[6]:
        found[6] = parts[:, 2 * hidden :].sum(0).to(b3.dtype)
    return tuple(found)  # type: ignore[return-value]


@norm_swiglu_backward.register_fake
def _(grad: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    return empty_gradients(inputs[:7], inputs[-1], grad)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:-1])
    ctx.eps = inputs[-1]


def _gradients(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:-1]
    return (*differentiate(norm_swiglu_backward, wanted, grad, *ctx.saved_tensors, ctx.eps), None)


norm_swiglu.register_autograd(_gradients, setup_context=_setup)


cast_under_autocast(norm_swiglu, "w12", "w3")


count_flops(
    norm_swiglu, lambda x, gamma, beta, w12, b12, w3, *_: 2 * len(x) * (w12.numel() + w3.numel())
)


def _backward_flops(grad: Tensor, x: Tensor, *others: Any) -> int:
    """The hidden layer again (w12) and its gradient (w3), then those that are wanted: the rows'
    (w12) and the two weights' own.
    """
    (_, _, w12, _, w3), wanted = others[:5], others[-1]
    products = (1 + any(wanted[:3]) + wanted[3]) * w12.numel() + (1 + wanted[5]) * w3.numel()
    return 2 * len(x) * int(products)


count_flops(norm_swiglu_backward, _backward_flops)
