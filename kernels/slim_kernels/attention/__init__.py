"""Softmax attention over packed sequences, with the rotary embedding of time applied to queries and
keys.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from slim_kernels.attention.cpu import attend_by_length
from slim_kernels.attention.reference import reference
from slim_kernels.attention.rotary import tables
from slim_kernels.runtime.arguments import (
    check_buckets,
    check_sequences,
    expect_floating,
    expect_shapes,
)
from slim_kernels.runtime.dispatch import product_dtype, uses_triton


def packed_attention(
    qkv: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    *,
    time: Tensor,
    visible: Tensor | None = None,
    buckets: Sequence[int] | None = None,
) -> Tensor:
    """softmax(q kᵀ / √d) v inside each packed sequence (paper section 3.1; the release's rotary
    attention).

    Args:
        qkv: (total, 3, H, d) queries, keys and values, d even.
        cu_seqlens: (S + 1,) int32, where each sequence begins; the last entry is total.
        max_seqlen: the longest sequence's length (tokens); `time` stays below it.
        time: (total,) int32 temporal index for the rotary embedding, -1 = not rotated.
        visible: (total,) bool, which tokens may be attended to (None: all); each sequence needs at
            least one. Where what tensors hold is not looked at, a sequence without any gets zeros,
            output and gradients.
        buckets: what the host knows of the lengths: sequences and their longest, again and again,
            in order. The Triton
            kernels then launch each bucket with tiles of its size.

    Returns: (total, H, d) in qkv's dtype.
    Raises: ValueError naming the argument that does not fit; what tensors hold is looked at on a
    CPU, and on a GPU under SLIM_KERNELS_CHECK=1.
    """
    if qkv.dim() != 4 or qkv.shape[1] != 3 or qkv.shape[3] % 2:
        raise ValueError(
            f"packed_attention: qkv must be (total, 3, H, even d); got {tuple(qkv.shape)}"
        )
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
    if uses_triton("packed_attention", qkv, product_dtype(qkv), obstacle):
        from slim_kernels.attention import triton  # only where triton is installed

        # made and kept outside the op: what an op makes, a captured graph takes as its own
        wide = torch.promote_types(product_dtype(qkv), torch.float32)
        cos, sin = tables(d // 2, max(max_seqlen, 1), qkv.device, wide)
        return triton.packed_attention(
            qkv, cu_seqlens, max_seqlen, cos, sin, time, visible, buckets
        )[0]
    if qkv.device.type == "cpu" and not torch.compiler.is_compiling():
        return attend_by_length(qkv, cu_seqlens, max_seqlen, time, visible)
    return reference(qkv, cu_seqlens, max_seqlen, time, visible)
