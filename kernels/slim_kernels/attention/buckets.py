"""Packed attention on a GPU that has no kernel for it (float32, compute capability below 8.0)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from slim_kernels.attention.reference import attend_padded, padded_rows, rotate_queries_keys


def attend_by_bucket(
    qkv: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    time: Tensor,
    visible: Tensor | None,
    buckets: Sequence[int],
) -> Tensor:
    """packed_attention with each bucket's sequences padded to its own longest; reads no tensor on
    the host.

    The recipe's views padded to the longest of all would have 3.5 times the scores.
    """
    total = qkv.shape[0]
    qk = rotate_queries_keys(qkv, time, max_seqlen)
    out, first = qkv.new_zeros(total + 1, *qkv.shape[2:]), 0  # a last row for padding
    for count, longest in zip(buckets[::2], buckets[1::2], strict=True):
        bounds = cu_seqlens[first : first + count + 1]
        first += count
        if count and longest:
            rows, is_token = padded_rows(bounds, longest)
            part = attend_padded(qk, qkv[:, 2], bounds, longest, visible)
            out = out.index_put((torch.where(is_token, rows, total),), part)
    return out[:total]
