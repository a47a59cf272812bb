"""embed_tokens as an op of Triton kernels: its launches, fake, backward, autocast and FLOPs."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from slim_kernels.embed_tokens.triton_kernels import embed_backward_kernel, embed_kernel
from slim_kernels.runtime.launch import architecture, float32_precision, launch
from slim_kernels.runtime.registration import (
    cast_under_autocast,
    count_flops,
    differentiate,
    empty_gradients,
    kernel_op,
)
from slim_kernels.runtime.target import runs_on_gpu
from slim_kernels.runtime.triton_layer_norm import exact
from slim_kernels.runtime.triton_rows import padded

# Programs that share the tokens of the gradients' sums.
MOST_PROGRAMS = 256
# Of a launch, whose tokens are counted in int32.
MOST_TOKENS = 2**31 - 1


def _precision(x: Tensor) -> str:
    """Near float32's on a GPU; an interpreter computes exactly."""
    return float32_precision(architecture(x.device)) if runs_on_gpu(x) else "ieee"


def _groups(
    clips: Sequence[Tensor], masks: Sequence[Tensor], patch: int, prefix: int
) -> Iterator[tuple[Tensor, Tensor | None, dict[str, int]]]:
    """Each group's clips, mask (None for an empty one) and numbers; `start` and `count`: its first
    token and how many it has, if none is left out. One of more than MOST_TOKENS comes in parts.
    """
    start = 0
    for whole, masked in zip(clips, masks, strict=True):
        steps = whole.shape[1] // patch
        length = prefix + steps * whole.shape[2]
        most = max(MOST_TOKENS // max(length, 1), 1)
        for begin in range(0, len(whole), most):
            x = whole[begin : begin + most]
            count = len(x) * length
            strides = dict(zip(("s_n", "s_t", "s_v", "s_c"), x.stride(), strict=True))
            yield (
                x,
                masked[begin : begin + most].contiguous() if masked.numel() else None,
                {"start": start, "count": count, "steps": steps, **strides},
            )
            start += count


def _own_rows(packed: Tensor, index: Tensor | None, numbers: dict[str, int]) -> Tensor:
    """The rows of packed tokens (total, D) that a group's are among: its own range where none is
    left out; where the index only, on the device, knows, all.
    """
    start, count = numbers["start"], numbers["count"]
    return packed if index is not None else packed[start : start + count]


def full_length(clips: Sequence[Tensor], patch: int, prefix: int) -> int:
    """Tokens of all clips (N, T, V, C) where none is left out."""
    return sum(x.shape[0] * (prefix + x.shape[1] // patch * x.shape[2]) for x in clips)


@kernel_op("slim_kernels::embed_tokens")
def embed_tokens(
    clips: Sequence[Tensor],
    masks: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    mask_token: Tensor,
    joints: Tensor,
    prefix: Tensor,
    index: Tensor | None,
) -> Tensor:
    """(total, D) in the joint embedding's dtype. masks: empty where a group has none, for autograd
    knows no lists that hold None.
    """
    (width, channels, patch), count, dtype = weight.shape, len(joints), joints.dtype
    total = full_length(clips, patch, len(prefix)) if index is None else len(index)
    tile = launch("embed", joints.device, width)
    weight, bias, mask_token, joints, prefix = exact(weight, bias, mask_token, joints, prefix)
    table = torch.cat([joints + bias, joints + mask_token, prefix])
    index = None if index is None else index.contiguous()
    out = table.new_empty(total, width, dtype=dtype)
    for x, mask, numbers in _groups(clips, masks, patch, len(prefix)):
        rows = _own_rows(out, index, numbers)
        if len(rows):
            embed_kernel[triton.cdiv(len(rows), tile["BM"] * tile["BLOCKS"]),](
                x,
                x if mask is None else mask,
                x if index is None else index,
                weight,
                table,
                rows,
                len(rows),
                **numbers,
                D=width,
                DP=padded(width),
                K=channels * patch,
                KP=max(16, triton.next_power_of_2(channels * patch)),
                P=patch,
                V=count,
                R=len(prefix),
                MASK=mask is not None,
                INDEX=index is not None,
                PRECISION=_precision(x),
                **tile,
            )
    return out


@embed_tokens.register_fake
def _(
    clips: Sequence[Tensor],
    masks: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    mask_token: Tensor,
    joints: Tensor,
    prefix: Tensor,
    index: Tensor | None,
) -> Tensor:
    total = (
        full_length(clips, weight.shape[2], prefix.shape[0]) if index is None else index.shape[0]
    )
    return joints.new_empty(total, weight.shape[0])


@kernel_op("slim_kernels::embed_tokens_backward")
def embed_tokens_backward(
    grad: Tensor,
    clips: Sequence[Tensor],
    masks: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    mask_token: Tensor,
    joints: Tensor,
    prefix: Tensor,
    index: Tensor | None,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of weight, bias, mask_token, joints and prefix; empty where they are not wanted."""
    grad = grad.contiguous()
    (width, channels, patch), count, registers = weight.shape, len(joints), len(prefix)
    size = channels * patch
    features = size + 2 + count + registers
    tile = launch("embed_backward", grad.device, width)
    dtype = torch.promote_types(grad.dtype, torch.float32)
    index = None if index is None else index.contiguous()
    parts = [grad.new_zeros(1, features, width, dtype=dtype)]
    for x, mask, numbers in _groups(clips, masks, patch, registers):
        rows = _own_rows(grad, index, numbers)
        programs = min(triton.cdiv(len(rows), tile["BM"]), MOST_PROGRAMS)
        part = grad.new_empty(programs, features, width, dtype=dtype)
        parts.append(part)
        if programs:
            embed_backward_kernel[programs, triton.cdiv(features, tile["BF"])](
                rows,
                x,
                x if mask is None else mask,
                x if index is None else index,
                part,
                len(rows),
                **numbers,
                D=width,
                DP=padded(width),
                K=size,
                P=patch,
                V=count,
                R=registers,
                F=features,
                MASK=mask is not None,
                INDEX=index is not None,
                PRECISION=_precision(x),
                **tile,
            )
    sums = torch.stack([part.sum(0) for part in parts]).sum(0).split([size, 1, 1, count, registers])
    shapes = ((width, channels, patch), (width,), (width,), joints.shape, prefix.shape)
    inputs = (weight, bias, mask_token, joints, prefix)
    return tuple(
        (total.t() if part is weight else total)
        .reshape(shape)
        .to(part.dtype, copy=True, memory_format=torch.contiguous_format)
        if is_wanted
        else grad.new_empty(0)
        for total, shape, part, is_wanted in zip(sums, shapes, inputs, wanted, strict=True)
    )  # type: ignore[return-value]


@embed_tokens_backward.register_fake
def _(
    grad: Tensor, clips: Sequence[Tensor], masks: Sequence[Tensor], *others: Any
) -> tuple[Tensor, ...]:
    return empty_gradients(others[:5], others[-1], grad)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    clips, masks, *parameters = inputs
    ctx.set_materialize_grads(False)
    ctx.groups = len(clips)
    ctx.save_for_backward(*clips, *masks, *parameters)


def _gradients(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
    saved, n = ctx.saved_tensors, ctx.groups
    arguments = (list(saved[:n]), list(saved[n : 2 * n]), *saved[2 * n :])
    found = differentiate(embed_tokens_backward, ctx.needs_input_grad[2:7], grad, *arguments)
    return [None] * n, [None] * n, *found, None


def _flops(clips: Sequence[Tensor], weight: Tensor) -> int:
    return (
        2
        * weight.numel()
        * sum(len(x) * (x.shape[1] // weight.shape[2]) * x.shape[2] for x in clips)
    )


embed_tokens.register_autograd(_gradients, setup_context=_setup)


cast_under_autocast(embed_tokens)


count_flops(embed_tokens, lambda clips, masks, weight, *_: _flops(clips, weight))


count_flops(embed_tokens_backward, lambda grad, clips, masks, weight, *_: _flops(clips, weight))
