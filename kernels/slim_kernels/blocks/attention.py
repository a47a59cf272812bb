"""A block's attention from its tokens on: LayerNorm, queries, keys and values, rotary embedding,
softmax attention.

Elsewhere than on a CPU it is norm_linear and packed_attention one after the other.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from slim_kernels.attention import packed_attention
from slim_kernels.blocks.inference.attention import norm_attention_without_gradients
from slim_kernels.blocks.training import NormAttention
from slim_kernels.linear import linear_residual, norm_linear, norm_linear_and_stream
from slim_kernels.runtime.arguments import check_sequences, expect_floating, expect_shapes
from slim_kernels.runtime.dispatch import (
    is_gradient_free,
    product_dtype,
    uses_triton,
    without_autocast,
)


def norm_attention(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    *,
    time: Tensor,
    heads: int,
    queries: Tensor | None = None,
    visible: Tensor | None = None,
    buckets: Sequence[int] | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """packed_attention of norm_linear: the first half of a block up to its output projection (paper
    section 3.1).

    Args:
        x: (total, D) packed tokens.
        norm_weight, norm_bias: (D,) of the LayerNorm.
        weight, bias: (3 D, D) and (3 D,), queries first, then keys and values, each head by head.
        cu_seqlens, max_seqlen, time, visible, buckets: see `packed_attention`.
        heads: H, a divisor of D.
        queries: (S,) int64, how many of each sequence's tokens are queries: 1 (its first) or
            all; None: all.

    Returns: (total, D) in x's dtype, under autocast in autocast's. Rows of tokens that are no
        queries must not be read: on a CPU they are zeros without a gradient, elsewhere and with
        eps = 0 (see `norm_linear`) they hold their attention.
    Raises: ValueError naming the argument that does not fit.
    """
    width = x.shape[-1]
    _check_heads(width, heads)
    if _is_two_ops(x, weight, eps):
        qkv = norm_linear(x, norm_weight, norm_bias, weight, bias, eps).view(
            x.shape[0], 3, heads, width // heads
        )
        return packed_attention(
            qkv, cu_seqlens, max_seqlen, time=time, visible=visible, buckets=buckets
        ).flatten(1)
    expect_floating(
        "norm_attention",
        x=x,
        norm_weight=norm_weight,
        norm_bias=norm_bias,
        weight=weight,
        bias=bias,
    )
    expect_shapes(
        "norm_attention",
        x=(x, (x.shape[0], width)),
        norm_weight=(norm_weight, (width,)),
        norm_bias=(norm_bias, (width,)),
        weight=(weight, (3 * width, width)),
        bias=(bias, (3 * width,)),
        time=(time, (x.shape[0],)),
        visible=(visible, (x.shape[0],)),
    )
    check_sequences("norm_attention", cu_seqlens, x.shape[0], max_seqlen, time, visible)
    dtype = product_dtype(x)
    run = (
        norm_attention_without_gradients
        if is_gradient_free(x, norm_weight, norm_bias, weight, bias)
        else NormAttention.apply
    )
    with without_autocast(x):
        out: Tensor = run(
            x,
            norm_weight,
            norm_bias,
            weight,
            bias,
            cu_seqlens,
            queries,
            time,
            visible,
            heads,
            eps,
            dtype,
        )
    return out


def attention_residual(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    *,
    time: Tensor,
    heads: int,
    queries: Tensor | None = None,
    rows: Tensor | None = None,
    visible: Tensor | None = None,
    buckets: Sequence[int] | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """x plus the projection of norm_attention: the first half of a block (paper section 3.1).

    By the Triton kernels x's two gradients, along its residual and through its LayerNorm, are added
    where the second one is made, not in a pass of their own.

    Args:
        proj_weight, proj_bias: (D, D) and (D,).
        rows: int64 (R,), which tokens are wanted, queries all of them; None: all.
        The others: see `norm_attention`.

    Returns: (total, D), or (R, D), in x's dtype.
    Raises: ValueError naming the argument that does not fit.
    """
    places: dict[str, Any] = {"time": time, "visible": visible, "buckets": buckets}
    _check_heads(x.shape[-1], heads)
    if _is_two_ops(x, weight, eps):
        qkv, x = norm_linear_and_stream(x, norm_weight, norm_bias, weight, bias, eps)
        qkv = qkv.view(x.shape[0], 3, heads, x.shape[1] // heads)
        attended = packed_attention(qkv, cu_seqlens, max_seqlen, **places).flatten(1)
    else:
        attended = norm_attention(
            *(x, norm_weight, norm_bias, weight, bias, cu_seqlens, max_seqlen),
            heads=heads,
            queries=queries,
            eps=eps,
            **places,
        )
    if rows is not None:
        x, attended = x.index_select(0, rows), attended.index_select(0, rows)
    return linear_residual(attended, proj_weight, proj_bias, x)


def _check_heads(width: int, heads: int) -> None:
    if heads < 1 or width % (2 * heads):
        raise ValueError(
            f"norm_attention: heads must be such that {width} features are a multiple of 2 heads; "
            f"got {heads}"
        )


def _is_two_ops(x: Tensor, weight: Tensor, eps: float) -> bool:
    """Whether attention is norm_linear and packed_attention one after the other."""
    return (
        x.device.type != "cpu"
        or eps == 0
        or torch.compiler.is_compiling()
        or uses_triton("packed_attention", x, product_dtype(weight))
    )
