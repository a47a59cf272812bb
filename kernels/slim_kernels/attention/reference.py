"""Packed attention in PyTorch's operations: the specification, and the tests' oracle."""

import torch
import torch.nn.functional as F
from torch import Tensor

from slim_kernels.attention.rotary import rotation


def reference(
    qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int, time: Tensor, visible: Tensor | None
) -> Tensor:
    """packed_attention in PyTorch's operations on sequences padded to max_seqlen; reads no tensor
    on the host.
    """
    total = qkv.shape[0]
    if total == 0:
        return qkv[:, 2]
    qk = rotate_queries_keys(qkv, time, max_seqlen)
    out = attend_padded(qk, qkv[:, 2], cu_seqlens, max_seqlen, visible)  # (S, N, H, d)
    token = torch.arange(total, device=qkv.device)
    sequence = torch.bucketize(token, cu_seqlens[1:].long(), right=True)
    return out[sequence, token - cu_seqlens[:-1].long()[sequence]]


def rotate_queries_keys(qkv: Tensor, time: Tensor, max_seqlen: int) -> Tensor:
    """(total, 2, H, d), in qkv's dtype."""
    cos, sin = rotation(time, max_seqlen, qkv.shape[3], qkv.dtype)
    a, b = qkv[:, :2].to(cos.dtype).chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(qkv.dtype)


def padded_rows(cu_seqlens: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """(S, longest) the packed token at each place of each sequence, and whether there is one."""
    begin, length = cu_seqlens[:-1].long(), cu_seqlens.diff().long()  # (S,)
    position = torch.arange(longest, device=cu_seqlens.device)
    return begin[:, None] + position, position < length[:, None]


def attend_padded(
    qk: Tensor, v: Tensor, cu_seqlens: Tensor, longest: int, visible: Tensor | None
) -> Tensor:
    """(S, longest, H, d), of sequences of at most `longest` tokens; padding has some output too."""
    rows, is_token = padded_rows(cu_seqlens, longest)
    rows = torch.where(is_token, rows, 0)
    q, k, v = (x[rows].transpose(1, 2) for x in (qk[:, 0], qk[:, 1], v))  # (S, H, N, d)
    is_key = is_token if visible is None else is_token & visible[rows]
    # A padded query attends to the first key, so that no row of the softmax is empty.
    is_first = torch.arange(longest, device=qk.device) == 0
    mask = is_key[:, None, None] | (~is_token[:, None, :, None] & is_first)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
