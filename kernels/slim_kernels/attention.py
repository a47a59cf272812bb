"""Softmax attention over packed sequences, with the rotary embedding of time applied to queries and keys."""

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from slim_kernels.dispatch import triton_wanted, warn_once
from slim_kernels.rotary import rotate_into, rotation

TRITON_HEADS = (16, 32, 64)
Run = tuple[int, int, int, int]


def equal_length_runs(cu_seqlens: Tensor, total: int, queries: Tensor | None = None) -> list[Run]:
    """(first token, sequences, length, queries) of each run of neighbouring sequences that are alike in the last two.

    queries: (S,) integers of each sequence (None: its length). Empty sequences are left out.
    Raises: ValueError when the sequences do not end at token `total`.
    """
    bounds = cu_seqlens.tolist()
    if bounds[-1] != total:
        raise ValueError(f"cu_seqlens must end at the number of tokens, {total}; it ends at {bounds[-1]}")
    lengths = [end - begin for begin, end in itertools.pairwise(bounds)]
    kinds = zip(lengths, lengths if queries is None else queries.tolist(), strict=True)
    runs: list[Run] = []
    for begin, kind in zip(bounds, kinds, strict=False):
        if runs and runs[-1][2:] == kind:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1, *kind)
        elif kind[0]:
            runs.append((begin, 1, *kind))
    return runs


def _of_run(packed: Tensor, run: Run) -> Tensor:
    """The run's rows of packed (total, ..., d) as (sequences, length, ..., d), a view."""
    first, sequences, length, _ = run
    return packed[first : first + sequences * length].unflatten(0, (sequences, length))


class _RotateAndSplit(torch.autograd.Function):
    """qkv -> q, k, v of every run, each (sequences, H, length, d), q and k rotated: three views of one copy.

    As one function so that the gradients are written once, into one tensor, instead of through a chain of padded
    slices.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, runs: list[Run]) -> tuple[Tensor, ...]:
        ctx.save_for_backward(cos, sin)
        ctx.runs, ctx.shape, ctx.dtype = runs, qkv.shape, qkv.dtype
        rotated = torch.empty_like(qkv, memory_format=torch.contiguous_format)
        rotate_into(rotated[:, :2], qkv[:, :2], cos, sin)
        rotated[:, 2] = qkv[:, 2]
        return tuple(part for run in runs for part in _of_run(rotated, run).permute(2, 0, 3, 1, 4).unbind(0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        grad = torch.empty(ctx.shape, dtype=ctx.dtype, device=cos.device)
        for number, run in enumerate(ctx.runs):
            turn, back = (_of_run(table, run)[:, :, 0] for table in (cos, -sin))  # (sequences, length, 1, d / 2)
            q, k, v = (part.transpose(1, 2) for part in grads[3 * number : 3 * number + 3])
            place = _of_run(grad, run)
            rotate_into(place[:, :, 0], q, turn, back)
            rotate_into(place[:, :, 1], k, turn, back)
            place[:, :, 2] = v
        return grad, None, None, None


def packed_attention(
    qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int, *, time: Tensor, visible: Tensor | None = None
) -> Tensor:
    """softmax(q kᵀ / √d) v inside each packed sequence (paper section 3.1; the release's rotary attention).

    Args:
        qkv: (total, 3, H, d) queries, keys and values, d even.
        cu_seqlens: (S + 1,) int32, where each sequence begins; the last entry is total.
        max_seqlen: the longest sequence's length (tokens); `time` stays below it.
        time: (total,) int32 temporal index for the rotary embedding, -1 = not rotated.
        visible: (total,) bool, which tokens may be attended to (None: all); each sequence needs at least one.

    Returns: (total, H, d) in qkv's dtype.
    Raises: ValueError when the shapes do not fit together (the Triton kernels, which read no tensor on the host, do
    not look at cu_seqlens).
    """
    total, three, _, d = qkv.shape
    if three != 3 or d % 2 or time.shape != (total,) or (visible is not None and visible.shape != (total,)):
        raise ValueError(
            "packed_attention takes qkv (total, 3, H, even d), time (total,) and visible (total,) or None; "
            f"got qkv {tuple(qkv.shape)}, time {tuple(time.shape)}, "
            f"visible {None if visible is None else tuple(visible.shape)}"
        )
    if triton_wanted(qkv):
        # Launches are on file for bfloat16; an interpreter takes what it computes rightly.
        if d in TRITON_HEADS and (qkv.dtype == torch.bfloat16) == (qkv.device.type == "cuda"):
            from slim_kernels.attention_triton import attention_forward  # only where triton is installed

            return attention_forward(qkv, cu_seqlens, max_seqlen, time, visible)[0]
        warn_once(f"packed_attention has no Triton kernel for heads of {d} in {qkv.dtype}; PyTorch's operations run")
    runs = equal_length_runs(cu_seqlens, total)
    if not runs:
        return qkv[:, 2]
    parts = _RotateAndSplit.apply(qkv, *rotation(time, max_seqlen, d, qkv.dtype), runs)
    outputs = []
    for number, run in enumerate(runs):
        mask = None if visible is None else _of_run(visible, run)[:, None, None]
        q, k, v = parts[3 * number : 3 * number + 3]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        outputs.append(out.transpose(1, 2).flatten(0, 1))  # (sequences * length, H, d)
    return torch.cat(outputs)
