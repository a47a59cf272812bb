"""Packed attention as an op of Triton kernels: its launches, fake, backward, autocast and FLOPs."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from slim_kernels.attention.triton_kernels import (
    attention_backward_keys_kernel,
    attention_backward_queries_kernel,
    attention_forward_kernel,
)
from slim_kernels.attention.triton_whole import (
    attention_backward_whole_kernel,
    attention_forward_whole_kernel,
)
from slim_kernels.runtime.launch import fits, launch
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


def _buckets(
    qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int, buckets: Sequence[int] | None
) -> Iterator[tuple[int, int, int]]:
    """First sequence, sequences and their longest of each bucket of neighbouring sequences that has
    tokens.
    """
    numbers = (len(cu_seqlens) - 1, max_seqlen) if buckets is None else buckets
    first = 0
    for count, longest in zip(numbers[::2], numbers[1::2], strict=True):
        if count and longest and len(qkv):
            yield first, count, longest
        first += count


@kernel_op("slim_kernels::packed_attention")
def packed_attention(
    qkv: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    cos: Tensor,
    sin: Tensor,
    time: Tensor,
    visible: Tensor | None,
    buckets: Sequence[int] | None,
) -> tuple[Tensor, Tensor]:
    """The output (total, H, d) and the softmax's log-sum-exp (H, total), in the dtype of cos and
    sin (times, d / 2), `rotary.tables` in float32 at least.
    """
    qkv, cu_seqlens, time = qkv.contiguous(), cu_seqlens.contiguous(), time.contiguous()
    total, _, heads, d = qkv.shape
    out, lse = qkv.new_empty(total, heads, d), cos.new_empty(heads, total)
    keys, cu_keys = (
        (cu_seqlens, cu_seqlens) if visible is None else visible_keys(visible, cu_seqlens)
    )
    arguments = (qkv, cos, sin, time, keys, cu_keys, cu_seqlens, out, lse, total)
    constants = {"H": heads, "D": d, "VISIBLE": visible is not None, "PRECISION": "ieee"}
    for first, count, longest in _buckets(qkv, cu_seqlens, max_seqlen, buckets):
        if fits("attention_forward_whole", qkv.device, longest, d):
            tile = launch("attention_forward_whole", qkv.device, longest, d)
            grid = (count * heads,)
            attention_forward_whole_kernel[grid](*arguments, first, **constants, **tile)
            continue
        tile = launch("attention_forward", qkv.device, longest, d)
        blocks = (count, triton.cdiv(longest, tile["BM"]), heads)
        attention_forward_kernel[blocks](*arguments, first, **constants, **tile)
    return out, lse


@packed_attention.register_fake
def _(
    qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int, cos: Tensor, *_others: Any
) -> tuple[Tensor, Tensor]:
    total, _, heads, d = qkv.shape
    return qkv.new_empty(total, heads, d), cos.new_empty(heads, total)


@kernel_op("slim_kernels::packed_attention_backward")
def packed_attention_backward(
    grad: Tensor,
    qkv: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    cos: Tensor,
    sin: Tensor,
    time: Tensor,
    visible: Tensor | None,
    buckets: Sequence[int] | None,
) -> Tensor:
    """The gradient of qkv, (total, 3, H, d)."""
    grad, qkv, out, cu_seqlens, time = (v.contiguous() for v in (grad, qkv, out, cu_seqlens, time))
    total, _, heads, d = qkv.shape
    # No query attends to a hidden token, so its key and value have no gradient.
    grad_qkv = torch.empty_like(qkv) if visible is None else torch.zeros_like(qkv)
    keys, cu_keys = (
        (cu_seqlens, cu_seqlens) if visible is None else visible_keys(visible, cu_seqlens)
    )
    where = (qkv, cos, sin, time, keys, cu_keys, cu_seqlens)
    constants = {"H": heads, "D": d, "VISIBLE": visible is not None, "PRECISION": "ieee"}
    delta = rotated = None
    for first, count, longest in _buckets(qkv, cu_seqlens, max_seqlen, buckets):
        if fits("attention_backward_whole", qkv.device, longest, d):
            tile = launch("attention_backward_whole", qkv.device, longest, d)
            attention_backward_whole_kernel[(count * heads,)](
                *where, grad, out, lse, grad_qkv, total, first, **constants, **tile
            )
            continue
        if delta is None:
            delta, rotated = torch.empty_like(lse), torch.empty_like(out)
        tile = launch("attention_backward_queries", qkv.device, longest, d)
        attention_backward_queries_kernel[(count, triton.cdiv(longest, tile["BM"]), heads)](
            *where, grad, out, lse, delta, rotated, grad_qkv, total, first, **constants, **tile
        )
        tile = launch("attention_backward_keys", qkv.device, longest, d)
        attention_backward_keys_kernel[(count, triton.cdiv(longest, tile["BN"]), heads)](
            *where, grad, lse, delta, rotated, grad_qkv, total, first, **constants, **tile
        )
    return grad_qkv


@packed_attention_backward.register_fake
def _(grad: Tensor, qkv: Tensor, *_others: Any) -> Tensor:
    return torch.empty_like(qkv, memory_format=torch.contiguous_format)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    qkv, cu_seqlens, max_seqlen, cos, sin, time, visible, buckets = inputs
    ctx.save_for_backward(qkv, *output, cu_seqlens, cos, sin, time, visible)
    ctx.max_seqlen, ctx.buckets = max_seqlen, buckets


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    qkv, out, lse, cu_seqlens, cos, sin, time, visible = ctx.saved_tensors
    grad_qkv = packed_attention_backward(
        grad, qkv, out, lse, cu_seqlens, ctx.max_seqlen, cos, sin, time, visible, ctx.buckets
    )
    return grad_qkv, *[None] * 7


def _flops(products: int, qkv: Tensor, cu_seqlens: Tensor, visible: Tensor | None) -> int:
    """FLOPs of `products` matrix products of queries by keys, counted from the tensors' lengths."""
    queries = cu_seqlens.diff().long()
    keys = queries if visible is None else visible_keys(visible, cu_seqlens)[1].diff().long()
    return 2 * products * qkv.shape[2] * qkv.shape[3] * int((queries * keys).sum())


packed_attention.register_autograd(_backward, setup_context=_setup)


cast_under_autocast(packed_attention, "qkv")


count_flops(packed_attention, lambda qkv, cu, _, c, s, t, visible, *__: _flops(2, qkv, cu, visible))


count_flops(
    packed_attention_backward,
    lambda g, qkv, o, lse, cu, _, c, s, t, visible, *__: _flops(5, qkv, cu, visible),
)
