"""The three dense parts of a transformer block around attention, each with its normalisation or residual."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def norm_linear(
    x: Tensor, norm_weight: Tensor, norm_bias: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-6
) -> Tensor:
    """LayerNorm, then a linear map: x (total, D), weight (E, D), bias (E,) -> (total, E)."""
    return F.linear(F.layer_norm(x, x.shape[-1:], norm_weight, norm_bias, eps), weight, bias)


def linear_residual(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """A linear map added to the residual stream: x (total, E), weight (D, E), residual (total, D) -> (total, D)."""
    return residual + F.linear(x, weight, bias)


# Rows of the hidden layer computed at a time: (rows, 3 F) floats stay in a core's cache.
_CHUNK_NUMBERS = 1 << 19


class _NormSwiGLU(torch.autograd.Function):
    """norm_swiglu by chunks of rows, so that the hidden layer is read and written in cache; it is kept only before
    SiLU.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, w12: Tensor, b12: Tensor, w3: Tensor, b3: Tensor, eps: float
    ) -> Tensor:
        normed, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], gamma, beta, eps)
        hidden = x.new_empty(len(x), len(w12))
        out = x + b3
        for rows in _chunks(x, w12):
            torch.addmm(b12, normed[rows], w12.t(), out=hidden[rows])
            gate, value = hidden[rows].chunk(2, 1)
            out[rows].addmm_(F.silu(gate).mul_(value), w3.t())
        ctx.save_for_backward(x, gamma, beta, w12, w3, normed, mean, rstd, hidden)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, beta, w12, w3, normed, mean, rstd, hidden = ctx.saved_tensors
        grad = grads[0].contiguous()
        grad_w12, grad_w3, grad_b12 = torch.zeros_like(w12), torch.zeros_like(w3), w12.new_zeros(len(w12))
        grad_normed = torch.empty_like(normed)
        half = w3.shape[1]
        buffer = torch.empty_like(hidden[next(_chunks(x, w12), slice(0, 0))])
        for rows in _chunks(x, w12):
            gate, value = hidden[rows].chunk(2, 1)
            grad_out, grad_hidden = grad[rows], buffer[: len(gate)]
            share = gate.sigmoid()
            silu = gate * share
            grad_w3.addmm_(grad_out.t(), silu * value)
            grad_product = grad_out @ w3  # (rows, F)
            torch.mul(grad_product, silu, out=grad_hidden[:, half:])
            # SiLU'(g) = σ + silu · (1 - σ)
            slope = silu.addcmul_(silu, share, value=-1).add_(share)
            torch.mul(grad_product.mul_(value), slope, out=grad_hidden[:, :half])
            grad_w12.addmm_(grad_hidden.t(), normed[rows])
            grad_b12 += grad_hidden.sum(0)
            torch.mm(grad_hidden, w12, out=grad_normed[rows])
        grad_x, grad_gamma, grad_beta = torch.ops.aten.native_layer_norm_backward(
            grad_normed, x, x.shape[-1:], mean, rstd, gamma, beta, [True, True, True]
        )
        return grad_x.add_(grad), grad_gamma, grad_beta, grad_w12, grad_b12, grad_w3, grad.sum(0), None


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

    x (total, D), w12 (2 F, D), w3 (D, F) -> (total, D). Under autocast and off the CPU it is composed of PyTorch's own
    operations; on the CPU it runs by chunks of rows.
    """
    if x.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        out: Tensor = _NormSwiGLU.apply(x, norm_weight, norm_bias, w12, b12, w3, b3, eps)
        return out
    gate, value = F.linear(F.layer_norm(x, x.shape[-1:], norm_weight, norm_bias, eps), w12, b12).chunk(2, -1)
    return x + F.linear(F.silu(gate) * value, w3, b3)
