"""norm_linear and linear_residual as one Triton kernel: a block of rows stays on chip while the
weight's rows go by.
"""

from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl

from slim_kernels.runtime.launch import KernelSpec
from slim_kernels.runtime.triton_rows import (
    WIDTHS,
    load_feature,
    load_rows,
    padded,
    standardised,
)


@triton.jit(do_not_specialize=["rows", "eps"])
def linear_kernel(
    x,
    gamma,
    beta,
    weight,
    bias,
    residual,
    out,
    rows,
    eps,
    D: tl.constexpr,
    E: tl.constexpr,
    DP: tl.constexpr,
    NORM: tl.constexpr,
    RESIDUAL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """out (rows, E) = [residual +] [LayerNorm of] x (rows, D) · weightᵀ + bias."""
    i_m = tl.program_id(0)
    ACC: tl.constexpr = bias.dtype.element_ty
    TYPE: tl.constexpr = weight.dtype.element_ty
    o_m, o_d = tl.arange(0, BM), tl.arange(0, DP)
    m_m = i_m * BM + o_m < rows
    begin = (i_m * BM).to(tl.int64) * E
    b_x = load_rows(x, i_m * BM, m_m, D, DP, BM).to(ACC)
    if NORM:
        b_x, _ = standardised(b_x, eps, D, DP)
        b_x = b_x * load_feature(gamma, D, DP) + load_feature(beta, D, DP)
    b_x = b_x.to(TYPE)
    for first in range(0, E, BN):
        o_e = first + tl.arange(0, BN)
        m_e = o_e < E
        offsets = o_e[None, :] * D + o_d[:, None]
        b_w = tl.load(
            weight + offsets, mask=m_e[None, :] & (o_d < D)[:, None], other=0.0
        )  # [DP, BN]
        b_y = tl.dot(b_x, b_w, input_precision=PRECISION, out_dtype=ACC)
        b_y += tl.load(bias + o_e, mask=m_e, other=0.0)[None, :]
        offsets = begin + (o_m[:, None] * E + o_e[None, :])
        m_y = m_m[:, None] & m_e[None, :]
        if RESIDUAL:
            b_y += tl.load(residual + offsets, mask=m_y, other=0.0).to(ACC)
        tl.store(out + offsets, b_y.to(out.dtype.element_ty), mask=m_y)


def _variants(width: int) -> Iterator[dict[str, Any]]:
    sizes = {"D": width, "E": 768, "DP": padded(width), "PRECISION": "ieee"}
    yield {**sizes, "NORM": True, "RESIDUAL": False, "out": "T"}
    yield {**sizes, "NORM": False, "RESIDUAL": True, "x": "T"}


_TYPES = {
    "x": "S",
    "gamma": "fp32",
    "beta": "fp32",
    "weight": "T",
    "bias": "fp32",
    "residual": "S",
    "out": "S",
}
KERNELS = {
    "linear": KernelSpec(
        linear_kernel, _TYPES, (WIDTHS,), _variants, {"rows": "i32", "eps": "fp32"}
    )
}
