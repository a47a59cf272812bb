"""Loads and stores of one head's rows, with the rotary embedding applied to queries and keys as
they are loaded.
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
    """cos, and sin with a minus in the first half of the features, of each row's time: [B, D]
    twice.
    """
    o_d = tl.arange(0, D)
    b_time = tl.maximum(tl.load(time + o_row, mask=m_row, other=0), 0)  # [B]
    o_turn = b_time[:, None] * (D // 2) + (o_d % (D // 2))[None, :]
    sign = tl.where(o_d < D // 2, -1.0, 1.0)[None, :]
    b_cos, b_sin = tl.load(cos + o_turn), tl.load(sin + o_turn)
    return b_cos, b_sin * sign.to(b_sin.dtype)


@triton.jit
def load_rotated(
    qkv,
    cos,
    sin,
    time,
    i_part,
    i_head,
    o_row,
    m_row,
    H: tl.constexpr,
    D: tl.constexpr,
    SWAPPED: tl.constexpr,
):
    """Queries (i_part 0) or keys (1), rotated, in the tables' dtype: [B, D].

    SWAPPED: features i and i + D / 2 exchanged; its products give what the
    inverse rotation of a product needs, without moving a product between threads.
    """
    o_d = tl.arange(0, D)
    base = (o_row.to(tl.int64) * 3 + i_part) * (H * D) + i_head * D  # [B]
    partner = (o_d + D // 2) % D
    b_x = tl.load(qkv + base[:, None] + o_d[None, :], mask=m_row[:, None], other=0.0)
    b_p = tl.load(qkv + base[:, None] + partner[None, :], mask=m_row[:, None], other=0.0)
    b_cos, b_sin = load_rotations(cos, sin, time, o_row, m_row, D)
    if SWAPPED:
        return b_p.to(b_cos.dtype) * b_cos - b_x.to(b_cos.dtype) * b_sin
    return b_x.to(b_cos.dtype) * b_cos + b_p.to(b_cos.dtype) * b_sin
