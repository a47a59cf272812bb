"""Packed attention as an op of Triton kernels: its launches, fake, backward, autocast and FLOPs."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from slim_kernels.attention.rotary import tables
from slim_kernels.attention.triton_kernels import (
    attention_backward_keys_kernel,
    attention_backward_queries_kernel,
    attention_forward_kernel,
)
from slim_kernels.runtime.launch import launch
from slim_kernels.runtime.registration import cast_under_autocast, count_flops, kernel_op


def visible_keys(visible: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
    """The visible tokens in order (int32 (total,), the rest zeros), and where each sequence's begin
    in that list (int32 (S + 1,)). Of fixed shapes, so nothing is read on the host.
    """
    count = visible.cumsum(0)
    position = torch.where(visible, count - 1, len(visible))  # hidden tokens go behind the list
    keys = cu_seqlens.new_zeros(len(visible) + 1)
    keys.scatter_(0, position, torch.arange(len(visible), dtype=keys.dtype, device=keys.device))
    bounds = torch.cat([count.new_zeros(1), count])[cu_seqlens.long()]
    return keys[:-1], bounds.to(cu_seqlens.dtype)


def _launches(
    kernel: str,
    qkv: Tensor,
    sequences: int,
    max_seqlen: int,
    buckets: Sequence[int] | None,
    side: str,
) -> Iterator[tuple[tuple[int, int, int], int, dict[str, int]]]:
    """Grid, first sequence and tile sizes for each bucket (its sequences, its longest) of
    neighbouring sequences.
    """
    _, _, heads, d = qkv.shape
    numbers = (sequences, max_seqlen) if buckets is None else buckets
    first = 0
    for count, longest in zip(numbers[::2], numbers[1::2], strict=True):
        tile = launch(kernel, qkv.device, longest, d)
        if count and longest:
            yield (count, triton.cdiv(longest, tile[side]), heads), first, tile
        first += count


@kernel_op("slim_kernels::packed_attention")
def packed_attention(
    qkv: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    time: Tensor,
    visible: Tensor | None,
    buckets: Sequence[int] | None,
) -> tuple[Tensor, Tensor]:
    """The output (total, H, d) and the softmax's log-sum-exp (H, total), in float32 at least."""
    qkv, cu_seqlens, time = qkv.contiguous(), cu_seqlens.contiguous(), time.contiguous()
    total, _, heads, d = qkv.shape
    cos, sin = tables(
        d // 2, max(max_seqlen, 1), qkv.device, torch.promote_types(qkv.dtype, torch.float32)
    )
    out, lse = qkv.new_empty(total, heads, d), cos.new_empty(heads, total)
    keys, cu_keys = (
        (cu_seqlens, cu_seqlens) if visible is None else visible_keys(visible, cu_seqlens)
    )
    for grid, first, tile in _launches(
        "attention_forward", qkv, len(cu_seqlens) - 1, max_seqlen, buckets, "BM"
    ):
        attention_forward_kernel[grid](
            qkv,
            cos,
            sin,
            time,
            keys,
            cu_keys,
            cu_seqlens,
            out,
            lse,
            d**-0.5,
            total,
            first,
            H=heads,
            D=d,
            VISIBLE=visible is not None,
            PRECISION="ieee",
            **tile,
        )
    return out, lse


@packed_attention.register_fake
def _(qkv: Tensor, cu_seqlens: Tensor, *_others: Any) -> tuple[Tensor, Tensor]:
    total, _, heads, d = qkv.shape
    wide = torch.promote_types(qkv.dtype, torch.float32)
    return qkv.new_empty(total, heads, d), qkv.new_empty(heads, total, dtype=wide)


@kernel_op("slim_kernels::packed_attention_backward")
def packed_attention_backward(
    grad: Tensor,
    qkv: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    time: Tensor,
    visible: Tensor | None,
    buckets: Sequence[int] | None,
) -> Tensor:
    """The gradient of qkv, (total, 3, H, d)."""
    grad, qkv, out, cu_seqlens, time = (v.contiguous() for v in (grad, qkv, out, cu_seqlens, time))
    total, _, heads, d = qkv.shape
    cos, sin = tables(d // 2, max(max_seqlen, 1), qkv.device, lse.dtype)
    delta = torch.empty_like(lse)
    # No query attends to a hidden token, so its key and value have no gradient.
    grad_qkv = torch.empty_like(qkv) if visible is None else torch.zeros_like(qkv)
    keys, cu_keys = (
        (cu_seqlens, cu_seqlens) if visible is None else visible_keys(visible, cu_seqlens)
    )
    where = (qkv, cos, sin, time, keys, cu_keys, cu_seqlens)
    constants = {"H": heads, "D": d, "VISIBLE": visible is not None, "PRECISION": "ieee"}
    scale, sequences = d**-0.5, len(cu_seqlens) - 1
    for grid, first, tile in _launches(
        "attention_backward_queries", qkv, sequences, max_seqlen, buckets, "BM"
    ):
        attention_backward_queries_kernel[grid](
            *where, grad, out, lse, delta, grad_qkv, scale, total, first, **constants, **tile
        )
    for grid, first, tile in _launches(
        "attention_backward_keys", qkv, sequences, max_seqlen, buckets, "BN"
    ):
        attention_backward_keys_kernel[grid](
            *where, grad, lse, delta, grad_qkv, scale, total, first, **constants, **tile
        )
    return grad_qkv


@packed_attention_backward.register_fake
def _(grad: Tensor, qkv: Tensor, *_others: Any) -> Tensor:
    return torch.empty_like(qkv, memory_format=torch.contiguous_format)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    qkv, cu_seqlens, max_seqlen, time, visible, buckets = inputs
    ctx.save_for_backward(qkv, *output, cu_seqlens, time, visible)
    ctx.max_seqlen, ctx.buckets = max_seqlen, buckets


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    qkv, out, lse, cu_seqlens, time, visible = ctx.saved_tensors
    grad_qkv = packed_attention_backward(
        grad, qkv, out, lse, cu_seqlens, ctx.max_seqlen, time, visible, ctx.buckets
    )
    return grad_qkv, None, None, None, None, None


def _flops(products: int, qkv: Tensor, cu_seqlens: Tensor, visible: Tensor | None) -> int:
    """FLOPs of `products` matrix products of queries by keys, counted from the tensors' lengths."""
    queries = cu_seqlens.diff().long()
    keys = queries if visible is None else visible_keys(visible, cu_seqlens)[1].diff().long()
    return 2 * products * qkv.shape[2] * qkv.shape[3] * int((queries * keys).sum())


packed_attention.register_autograd(_backward, setup_context=_setup)


cast_under_autocast(packed_attention, "qkv")


count_flops(packed_attention, lambda qkv, cu, _, time, visible, *__: _flops(2, qkv, cu, visible))


count_flops(
    packed_attention_backward,
    lambda g, qkv, o, lse, cu, _, t, visible, *__: _flops(5, qkv, cu, visible),
)
