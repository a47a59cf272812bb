"""The linear maps around attention, one with its LayerNorm, the other with its residual."""

import torch
from torch import Tensor

from slim_kernels.linear import cpu, reference
from slim_kernels.runtime.arguments import expect_floating, expect_shapes
from slim_kernels.runtime.dispatch import (
    is_gradient_free,
    obstacle_of_width,
    product_dtype,
    uses_triton,
)


def norm_linear(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float = 1e-6,
) -> Tensor:
    """LayerNorm, then a linear map: x (total, D), weight (E, D), bias (E,) -> (total, E) in the
    weight's dtype. With eps = 0 rows without variance are normalised to zeros.

    Raises: ValueError naming the argument that does not fit.
    """
    arguments = x, norm_weight, norm_bias, weight, bias
    if _takes_kernel(*arguments):
        from slim_kernels.linear import triton  # only where triton is installed

        return triton.norm_linear(*arguments, eps)
    return reference.norm_linear(*arguments, eps)


def norm_linear_and_stream(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """norm_linear, and x for its residual. By the Triton kernels the gradient that comes back along
    the latter is added where x's is made, not in a pass of its own.
    """
    arguments = x, norm_weight, norm_bias, weight, bias
    if (
        not torch.compiler.is_compiling()
        and not is_gradient_free(*arguments)
        and _takes_kernel(*arguments)
    ):
        from slim_kernels.linear import triton  # only where triton is installed

        return triton.norm_linear_and_stream(*arguments, eps)
    return norm_linear(*arguments, eps), x


def _takes_kernel(
    x: Tensor, norm_weight: Tensor, norm_bias: Tensor, weight: Tensor, bias: Tensor
) -> bool:
    """Whether norm_linear takes its Triton kernel. Raises: see norm_linear."""
    width = x.shape[-1]
    expect_floating(
        "norm_linear", x=x, norm_weight=norm_weight, norm_bias=norm_bias, weight=weight, bias=bias
    )
    expect_shapes(
        "norm_linear",
        x=(x, (x.shape[0], width)),
        norm_weight=(norm_weight, (width,)),
        norm_bias=(norm_bias, (width,)),
        weight=(weight, (weight.shape[0], width)),
        bias=(bias, (weight.shape[0],)),
    )
    return uses_triton("norm_linear", x, product_dtype(weight), obstacle_of_width(width))


def linear_residual(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """A linear map added to the residual stream: x (total, E), weight (D, E), residual (total, D)
    -> (total, D).

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
    if uses_triton("linear_residual", x, product_dtype(weight), obstacle_of_width(x.shape[-1])):
        from slim_kernels.linear import triton  # only where triton is installed

        return triton.linear_residual(x, weight, bias, residual)
    if (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and is_gradient_free(x, weight, bias, residual)
    ):
        return cpu.linear_residual(x, weight, bias, residual)
    return reference.linear_residual(x, weight, bias, residual)
