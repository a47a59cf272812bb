"""Inputs and oracles of norm_linear, linear_residual and norm_swiglu."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from slim_kernels import norm_linear, norm_swiglu
from torch import Tensor

Part = Callable[..., Tensor]


def swiglu(
    x: Tensor, gamma: Tensor, beta: Tensor, w12: Tensor, b12: Tensor, w3: Tensor, b3: Tensor
) -> Tensor:
    hidden = F.linear(F.layer_norm(x, x.shape[-1:], gamma, beta, 1e-6), w12, b12)
    gate, value = hidden[:, : w3.shape[1]], hidden[:, w3.shape[1] :]
    return x + F.linear(gate / (1 + torch.exp(-gate)) * value, w3, b3)


def qkv(x: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    return (normed * gamma + beta) @ weight.t() + bias


def projection(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    return residual + x @ weight.t() + bias


def shapes(part: Part, rows: int, width: int, hidden: int) -> list[tuple[int, ...]]:
    norm = [(width,), (width,)]
    if part is norm_swiglu:
        return [(rows, width), *norm, (2 * hidden, width), (2 * hidden,), (width, hidden), (width,)]
    if part is norm_linear:
        return [(rows, width), *norm, (hidden, width), (hidden,)]
    return [(rows, width), (hidden, width), (hidden,), (rows, hidden)]


def inputs(
    part: Part, rows: int, width: int = 6, hidden: int = 5, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    return [
        torch.randn(shape, dtype=dtype).requires_grad_()
        for shape in shapes(part, rows, width, hidden)
    ]


def assert_alike(
    part: Part, composed: Part, arguments: list[Tensor], tolerance: float = 1e-10
) -> None:
    got, expected = part(*arguments), composed(*arguments)
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
    upstream = torch.randn_like(expected)
    grads = [torch.autograd.grad(out, arguments, upstream) for out in (got, expected)]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
