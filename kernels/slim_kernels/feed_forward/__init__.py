"""The feed-forward of a block: LayerNorm, SwiGLU, linear map and residual."""

import torch
from torch import Tensor

from slim_kernels.feed_forward.cpu import NormSwiGLU, norm_swiglu_without_gradients
from slim_kernels.feed_forward.reference import norm_swiglu as reference
from slim_kernels.runtime.arguments import expect_floating, expect_shapes
from slim_kernels.runtime.dispatch import (
    is_gradient_free,
    obstacle_of_width,
    product_dtype,
    uses_triton,
    without_autocast,
)


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
    """x + w3 (SiLU(first half) · second half) of w12 LayerNorm(x): the block's feed-forward with
    its residual.

    x (total, D), w12 (2 F, D), w3 (D, F) -> (total, D) in x's dtype. On the CPU it runs by chunks
    of rows, in autocast's dtype where that is on. With eps = 0 rows without variance are normalised
    to zeros.
    Raises: ValueError naming the argument that does not fit.
    """
    width, hidden = x.shape[-1], w3.shape[-1]
    expect_floating(
        "norm_swiglu",
        x=x,
        norm_weight=norm_weight,
        norm_bias=norm_bias,
        w12=w12,
        b12=b12,
        w3=w3,
        b3=b3,
    )
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
    if uses_triton("norm_swiglu", x, product_dtype(w12), obstacle_of_width(width)):
        from slim_kernels.feed_forward import triton  # only where triton is installed

        return triton.norm_swiglu(x, norm_weight, norm_bias, w12, b12, w3, b3, eps)
    if x.device.type == "cpu" and eps != 0 and not torch.compiler.is_compiling():
        dtype = product_dtype(x)
        with without_autocast(x):
            if is_gradient_free(x, norm_weight, norm_bias, w12, b12, w3, b3):
                (w1, w2), (b1, b2) = w12.to(dtype).chunk(2), b12.to(dtype).chunk(2)
                return norm_swiglu_without_gradients(
                    x, norm_weight, norm_bias, (w1, w2), (b1, b2), w3.to(dtype), b3.to(dtype), eps
                )
            out: Tensor = NormSwiGLU.apply(x, norm_weight, norm_bias, w12, b12, w3, b3, eps, dtype)
        return out
    return reference(x, norm_weight, norm_bias, w12, b12, w3, b3, eps)
