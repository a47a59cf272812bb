"""Tiles of packed rows, shared by the kernels: a row of features is wholly in one program, padded to a power of two.

Names in all kernels: i_ program index, o_ offsets, m_ mask, b_ block in registers; BM, BN, BF tile sizes; D a row's
features, DP the power of two they are padded to; ACC the dtype of sums, TYPE that of matrix operands.
"""

import triton
import triton.language as tl

PADDED = (16, 32, 64, 128, 256)
"""The powers of two that a row's features are padded to."""


def padded(width: int) -> int:
    """The power of two that holds `width` features."""
    return next(power for power in PADDED if width <= power)


@triton.jit
def load_rows(x, o_m, m_m, D: tl.constexpr, DP: tl.constexpr):
    """Rows of x (rows, D): [BM, DP], zeros where masked."""
    o_d = tl.arange(0, DP)
    place = o_m.to(tl.int64)[:, None] * D + o_d[None, :]
    return tl.load(x + place, mask=m_m[:, None] & (o_d < D)[None, :], other=0.0)


@triton.jit
def store_rows(x, block, o_m, m_m, D: tl.constexpr, DP: tl.constexpr):
    """The inverse of load_rows."""
    o_d = tl.arange(0, DP)
    place = o_m.to(tl.int64)[:, None] * D + o_d[None, :]
    tl.store(x + place, block.to(x.dtype.element_ty), mask=m_m[:, None] & (o_d < D)[None, :])


@triton.jit
def load_feature(v, D: tl.constexpr, DP: tl.constexpr):
    """v (D,): [1, DP], zeros where padded."""
    o_d = tl.arange(0, DP)
    return tl.load(v + o_d, mask=o_d < D, other=0.0)[None, :]


@triton.jit
def standardised(b_x, eps, D: tl.constexpr, DP: tl.constexpr):
    """LayerNorm of rows [BM, DP] before its gain and bias, and the reciprocal deviation [BM]."""
    m_d = (tl.arange(0, DP) < D)[None, :]
    b_x = tl.where(m_d, b_x - (tl.sum(b_x, 1) / D)[:, None], 0.0)
    b_rstd = 1.0 / tl.sqrt(tl.sum(b_x * b_x, 1) / D + eps)
    return b_x * b_rstd[:, None], b_rstd
