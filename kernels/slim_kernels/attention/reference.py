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
    total, _, _, d = qkv.shape
    if total == 0:
        return qkv[:, 2]
    cos, sin = rotation(time, max_seqlen, d, qkv.dtype)
    a, b = qkv[:, :2].to(cos.dtype).chunk(2, -1)
    qk = torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(qkv.dtype)
    begin, length = cu_seqlens[:-1].long(), cu_seqlens.diff().long()  # (S,)
    position = torch.arange(max_seqlen, device=qkv.device)
    is_token = position < length[:, None]  # (S, N)
    rows = torch.where(is_token, begin[:, None] + position, 0)
    q, k, v = (x[rows].transpose(1, 2) for x in (qk[:, 0], qk[:, 1], qkv[:, 2]))  # (S, H, N, d)
    is_key = is_token if visible is None else is_token & visible[rows]
    # A padded query attends to the first key, so that no row of the softmax is empty.
    mask = is_key[:, None, None] | (~is_token[:, None, :, None] & (position == 0))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)  # (S, N, H, d)
    token = torch.arange(total, device=qkv.device)
    sequence = torch.bucketize(token, cu_seqlens[1:].long(), right=True)
    return out[sequence, token - begin[sequence]]
