"""Tiles of packed rows, shared by the kernels: a row of features is wholly in one program, padded
to a power of two.

Names in all kernels: i_ program index, o_ offsets, m_ mask, b_ block in registers; BM, BN, BF tile
sizes; D a row's features, DP the power of two they are padded to; ACC the dtype of sums, TYPE that
of matrix operands.
"""

import triton
import triton.language as tl

PADDED = (16, 32, 64, 128, 256)
"""The powers of two that a row's features are padded to."""
WIDTHS = (*PADDED, 96, 160, 192)
"""Features of a row for which launches are checked."""


def padded(width: int) -> int:
    """The power of two that holds `width` features."""
    return next(power for power in PADDED if width <= power)


@triton.jit
def load_rows(x, first, m_m, D: tl.constexpr, DP: tl.constexpr, BM: tl.constexpr):
    """BM rows of x (rows, D) from `first` on: [BM, DP], zeros where masked.

    Only where the block begins is counted in int64: within it int32 saves registers.
    """
    o_m, o_d = tl.arange(0, BM), tl.arange(0, DP)
    mask = m_m[:, None] if D == DP else m_m[:, None] & (o_d < D)[None, :]
    return tl.load(
        x + tl.cast(first, tl.int64) * D + (o_m[:, None] * D + o_d[None, :]), mask=mask, other=0.0
    )


@triton.jit
def store_rows(x, block, first, m_m, D: tl.constexpr, DP: tl.constexpr, BM: tl.constexpr):
    """The inverse of load_rows."""
    o_m, o_d = tl.arange(0, BM), tl.arange(0, DP)
    mask = m_m[:, None] if D == DP else m_m[:, None] & (o_d < D)[None, :]
    block = block.to(x.dtype.element_ty)
    tl.store(x + tl.cast(first, tl.int64) * D + (o_m[:, None] * D + o_d[None, :]), block, mask=mask)


@triton.jit
def load_feature(v, D: tl.constexpr, DP: tl.constexpr):
    """v (D,): [1, DP], zeros where padded."""
    o_d = tl.arange(0, DP)
    return tl.load(v + o_d, mask=o_d < D, other=0.0)[None, :]


@triton.jit
def standardised(b_x, eps, D: tl.constexpr, DP: tl.constexpr):
    """LayerNorm of rows [BM, DP] before its gamma and bias, and the reciprocal deviation [BM]; with
    eps = 0 both are zeros for rows without variance, as those beyond a tensor's end are.
    """
    m_d = (tl.arange(0, DP) < D)[None, :]
    b_x = tl.where(m_d, b_x - (tl.sum(b_x, 1) / D)[:, None], 0.0)
    b_var = tl.sum(b_x * b_x, 1) / D + eps
    b_rstd = tl.where(b_var == 0, 0.0, 1.0 / tl.sqrt(b_var))
    return b_x * b_rstd[:, None], b_rstd
