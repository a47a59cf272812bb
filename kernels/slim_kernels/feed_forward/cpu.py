"""norm_swiglu on a CPU by chunks of rows, so that the hidden layer stays in cache."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from slim_kernels.runtime.matmul import add_matmul, linear, matmul

# Numbers of the hidden layer (rows, 2 F) computed at a time: 4 MB in float32, which stay in cache
# between the two matrix products.
_CHUNK_NUMBERS = 1 << 20
# Rows at a time without gradients: as many as a chunk of attention in blocks/inference has, so that
# its results are read from cache.
_CHUNK_ROWS = 1 << 10


class NormSwiGLU(torch.autograd.Function):
    """norm_swiglu by chunks of rows, so that the hidden layer is read and written in cache; only
    its values before SiLU are saved. Matrix products and what they read are in `dtype`, norms and
    residuals in x's.
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
            add_matmul(out[rows], F.silu(gate).mul_(value), w3.t())
        ctx.save_for_backward(x, gamma, beta, w12, w3, normed, mean, rstd, hidden)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # as in the forward, also when called under autocast
        with torch.autocast("cpu", enabled=False):
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
        grad_product = matmul(grad_out, w3)  # (rows, F)
        torch.mul(grad_product, silu, out=grad_hidden[:, half:])
        add_matmul(grad_w3, grad_out.t(), silu.mul_(value))
        torch.ops.aten.silu_backward(
            grad_product.mul_(value), gate, grad_input=grad_hidden[:, :half]
        )
        add_matmul(grad_w12, grad_hidden.t(), normed[rows])
        grad_b12 += grad_hidden.sum(0)
        add_matmul(grad_normed[rows], grad_hidden, w12)
    grad_x, grad_gamma, grad_beta = torch.ops.aten.native_layer_norm_backward(
        grad_normed, x, x.shape[-1:], mean, rstd, gamma, beta, [True, True, True]
    )
    return (
        grad_x.add_(grad),
        grad_gamma,
        grad_beta,
        grad_w12,
        grad_b12,
        grad_w3,
        grad.sum(0),
        None,
        None,
    )


def _chunks(x: Tensor, w12: Tensor) -> Any:
    size = max(64, _CHUNK_NUMBERS // max(len(w12), 1))
    return (slice(begin, begin + size) for begin in range(0, len(x), size))


def norm_swiglu_without_gradients(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    w12: tuple[Tensor, Tensor],
    b12: tuple[Tensor, Tensor],
    w3: Tensor,
    b3: Tensor,
    eps: float,
    out: Tensor | None = None,
) -> Tensor:
    """norm_swiglu of x (total, D) without gradients, products in the weights' dtype; w12 and b12 in
    their halves.

    out: (total, D) to be filled.
    """
    out = torch.empty_like(x, memory_format=torch.contiguous_format) if out is None else out
    for begin in range(0, len(x), _CHUNK_ROWS):
        rows = slice(begin, begin + _CHUNK_ROWS)
        normed = torch.native_layer_norm(x[rows], x.shape[-1:], gamma, beta, eps)[0].to(b3.dtype)
        hidden = linear(normed, w12[0], b12[0], silu=True).mul_(linear(normed, w12[1], b12[1]))
        torch.add(x[rows], linear(hidden, w3, b3), out=out[rows])
    return out
