"""Packed attention on a CPU: neighbouring sequences of one length are attended to together, without
padding.
"""

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import (
    flop_registry,
    register_flop_formula,
    sdpa_backward_flop,
    sdpa_flop,
)

from slim_kernels.attention.rotary import rotate_into, rotation

Run = tuple[int, int, int, int]


def equal_length_runs(cu_seqlens: Tensor, queries: Tensor | None = None) -> list[Run]:
    """(first token, sequences, length, queries) of each run of neighbouring sequences that are
    alike in the last two.

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
    """qkv -> q, k, v of every run, each (sequences, H, length, d), q and k rotated: three views of
    one copy.

    As one function so that the gradients are written once, into one tensor, instead of through a
    chain of padded slices.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, runs: list[Run]
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(cos, sin)
        ctx.runs, ctx.shape, ctx.dtype = runs, qkv.shape, qkv.dtype
        rotated = torch.empty_like(qkv, memory_format=torch.contiguous_format)
        rotate_into(rotated[:, :2], qkv[:, :2], cos, sin)
        rotated[:, 2] = qkv[:, 2]
        return tuple(
            part for run in runs for part in _of_run(rotated, run).permute(2, 0, 3, 1, 4).unbind(0)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        grad = torch.empty(ctx.shape, dtype=ctx.dtype, device=cos.device)
        for number, run in enumerate(ctx.runs):
            # (sequences, length, 1, d / 2)
            cos_run, minus_sin_run = (_of_run(table, run)[:, :, 0] for table in (cos, -sin))
            q, k, v = (part.transpose(1, 2) for part in grads[3 * number : 3 * number + 3])
            target = _of_run(grad, run)
            rotate_into(target[:, :, 0], q, cos_run, minus_sin_run)
            rotate_into(target[:, :, 1], k, cos_run, minus_sin_run)
            target[:, :, 2] = v
        return grad, None, None, None


def attend_by_length(
    qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int, time: Tensor, visible: Tensor | None
) -> Tensor:
    """packed_attention on runs of sequences of one length, without padding; reads cu_seqlens on the
    host.
    """
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


# FlopCounterMode knows PyTorch's fused attention on every device but the CPU.
for _op, _formula in (
    (torch.ops.aten._scaled_dot_product_flash_attention_for_cpu, sdpa_flop),
    (torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward, sdpa_backward_flop),
):
    if _op not in flop_registry:
        register_flop_formula(_op, get_raw=True)(_formula)
