"""Loads and stores of one head's rows, with the rotary embedding applied to queries and keys as
they are loaded, and undone as their gradients are stored.

A row's features are two halves, whose i-th numbers make a pair. A half is loaded as a block of its
own: both numbers of a pair are then in one thread, forward and backward.
"""

import triton
import triton.language as tl


@triton.jit
def load_block(p, i_part, i_head, o_row, m_row, P: tl.constexpr, H: tl.constexpr, D: tl.constexpr):
    """Rows of one part and head of (total, P, H, D): [B, D], zeros where masked."""
    o_d = tl.arange(0, D)
    base = (o_row.to(tl.int64) * P + i_part) * (H * D) + i_head * D  # [B]
    return tl.load(p + base[:, None] + o_d[None, :], mask=m_row[:, None], other=0.0)


@triton.jit
def store_block(
    p, b, i_part, i_head, o_row, m_row, P: tl.constexpr, H: tl.constexpr, D: tl.constexpr
):
    """The inverse of load_block."""
    o_d = tl.arange(0, D)
    base = (o_row.to(tl.int64) * P + i_part) * (H * D) + i_head * D  # [B]
    tl.store(p + base[:, None] + o_d[None, :], b.to(p.dtype.element_ty), mask=m_row[:, None])


@triton.jit
def load_rotations(cos, sin, time, o_row, m_row, D: tl.constexpr):
    """cos and sin of each row's time: [B, D / 2] each."""
    b_time = tl.maximum(tl.load(time + o_row, mask=m_row, other=0), 0)  # [B]
    o_turn = b_time[:, None] * (D // 2) + tl.arange(0, D // 2)[None, :]
    return tl.load(cos + o_turn), tl.load(sin + o_turn)


@triton.jit
def load_rotated(qkv, b_cos, b_sin, i_part, i_head, o_row, m_row, H: tl.constexpr, D: tl.constexpr):
    """Queries (i_part 0) or keys (1), rotated by load_rotations' angles, in their dtype: [B, D],
    zeros where masked.
    """
    base = (o_row.to(tl.int64) * 3 + i_part) * (H * D) + i_head * D  # [B]
    pointers = qkv + base[:, None] + tl.arange(0, D // 2)[None, :]
    b_lo = tl.load(pointers, mask=m_row[:, None], other=0.0).to(b_cos.dtype)
    b_hi = tl.load(pointers + D // 2, mask=m_row[:, None], other=0.0).to(b_cos.dtype)
    pair = tl.join(b_lo * b_cos - b_hi * b_sin, b_hi * b_cos + b_lo * b_sin)  # [B, D / 2, 2]
    return tl.reshape(tl.permute(pair, (0, 2, 1)), (o_row.shape[0], D))


@triton.jit
def store_rotated_back(
    grad_qkv, b, b_cos, b_sin, i_part, i_head, o_row, m_row, H: tl.constexpr, D: tl.constexpr
):
    """The gradient b [B, D] of what load_rotated gave, as that of what it loaded."""
    base = (o_row.to(tl.int64) * 3 + i_part) * (H * D) + i_head * D  # [B]
    pointers = grad_qkv + base[:, None] + tl.arange(0, D // 2)[None, :]
    b_lo, b_hi = tl.split(tl.permute(tl.reshape(b, (o_row.shape[0], 2, D // 2)), (0, 2, 1)))
    TYPE: tl.constexpr = grad_qkv.dtype.element_ty
    tl.store(pointers, (b_lo * b_cos + b_hi * b_sin).to(TYPE), mask=m_row[:, None])
    tl.store(pointers + D // 2, (b_hi * b_cos - b_lo * b_sin).to(TYPE), mask=m_row[:, None])
