"""Softmax attention over packed sequences, with the rotary embedding of time applied to queries and keys."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from slim_kernels.checks import check_buckets, check_sequences, expect_floating, expect_shapes
from slim_kernels.dispatch import product_dtype, triton_wanted
from slim_kernels.rotary import rotate_into, rotation

Run = tuple[int, int, int, int]


def equal_length_runs(cu_seqlens: Tensor, queries: Tensor | None = None) -> list[Run]:
    """(first token, sequences, length, queries) of each run of neighbouring sequences that are alike in the last two.

    queries: (S,) integers of each sequence (None: its length). Empty sequences are left out.
    """
    bounds = cu_seqlens.tolist()
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


def reference(qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int, time: Tensor, visible: Tensor | None) -> Tensor:
    """packed_attention in PyTorch's operations on sequences padded to max_seqlen; reads no tensor on the host."""
    total, _, _, d = qkv.shape
    if total == 0:
        return qkv[:, 2]
    cos, sin = rotation(time, max_seqlen, d, qkv.dtype)
    a, b = qkv[:, :2].to(cos.dtype).chunk(2, -1)
    qk = torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(qkv.dtype)
    begin, length = cu_seqlens[:-1].long(), cu_seqlens.diff().long()  # (S,)
    place = torch.arange(max_seqlen, device=qkv.device)
    inside = place < length[:, None]  # (S, N)
    rows = torch.where(inside, begin[:, None] + place, 0)
    q, k, v = (x[rows].transpose(1, 2) for x in (qk[:, 0], qk[:, 1], qkv[:, 2]))  # (S, H, N, d)
    asked = inside if visible is None else inside & visible[rows]
    # A padded query may ask the first key, so that no row of the softmax is empty.
    mask = asked[:, None, None] | (~inside[:, None, :, None] & (place == 0))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)  # (S, N, H, d)
    token = torch.arange(total, device=qkv.device)
    sequence = torch.bucketize(token, cu_seqlens[1:].long(), right=True)
    return out[sequence, token - begin[sequence]]


def _by_runs(qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int, time: Tensor, visible: Tensor | None) -> Tensor:
    """packed_attention on runs of sequences of one length, without padding; reads cu_seqlens on the host."""
    d = qkv.shape[3]
    runs = equal_length_runs(cu_seqlens)
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


def packed_attention(
    qkv: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    *,
    time: Tensor,
    visible: Tensor | None = None,
    buckets: Sequence[int] | None = None,
) -> Tensor:
    """softmax(q kᵀ / √d) v inside each packed sequence (paper section 3.1; the release's rotary attention).

    Args:
        qkv: (total, 3, H, d) queries, keys and values, d even.
        cu_seqlens: (S + 1,) int32, where each sequence begins; the last entry is total.
        max_seqlen: the longest sequence's length (tokens); `time` stays below it.
        time: (total,) int32 temporal index for the rotary embedding, -1 = not rotated.
        visible: (total,) bool, which tokens may be attended to (None: all); each sequence needs at least one.
        buckets: what the host knows of the lengths: sequences and their longest, again and again, in order. The Triton
            kernels then launch each bucket with tiles of its size.

    Returns: (total, H, d) in qkv's dtype.
    Raises: ValueError naming the argument that does not fit; what tensors hold is looked at on a CPU, and on a GPU
    under SLIM_KERNELS_CHECK=1.
    """
    if qkv.dim() != 4 or qkv.shape[1] != 3 or qkv.shape[3] % 2:
        raise ValueError(f"packed_attention: qkv must be (total, 3, H, even d); got {tuple(qkv.shape)}")
    total, _, _, d = qkv.shape
    expect_floating("packed_attention", qkv=qkv)
    expect_shapes(
        "packed_attention",
        qkv=(qkv, tuple(qkv.shape)),
        cu_seqlens=(cu_seqlens, tuple(cu_seqlens.shape)),
        time=(time, (total,)),
        visible=(visible, (total,)),
    )
    check_sequences("packed_attention", cu_seqlens, total, max_seqlen, time, visible)
    if buckets is not None:
        check_buckets("packed_attention", buckets, cu_seqlens)
    obstacle = "" if d in (16, 32, 64) else f"heads of {d}"
    if triton_wanted("packed_attention", qkv, product_dtype(qkv), obstacle):
        from slim_kernels import attention_triton  # only where triton is installed

        return attention_triton.packed_attention(qkv, cu_seqlens, max_seqlen, time, visible, buckets)[0]
    if qkv.device.type == "cpu" and not torch.compiler.is_compiling():
        return _by_runs(qkv, cu_seqlens, max_seqlen, time, visible)
    return reference(qkv, cu_seqlens, max_seqlen, time, visible)
