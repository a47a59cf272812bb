"""The gradients of a LayerNorm as one Triton kernel: read the rows once, write their gradient once."""

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from slim_kernels.launch import Shipped, launch
from slim_kernels.rows_triton import PADDED, load_feature, load_rows, padded, standardised, store_rows


@triton.jit(do_not_specialize=["rows", "eps"])
def norm_backward_kernel(
    grad, x, gain, shift, residual, grad_x, normed, parts, rows, eps,
    D: tl.constexpr, DP: tl.constexpr, RESIDUAL: tl.constexpr, NORMED: tl.constexpr, BM: tl.constexpr,
    BLOCKS: tl.constexpr,
):  # fmt: skip
    """From the normalised rows' gradient: the rows' own [+ residual], [the normalised rows,] and in parts (programs,
    2, D) this program's share of the gain's and the shift's gradients. A program takes BLOCKS blocks of rows.
    """
    i_m = tl.program_id(0)
    ACC: tl.constexpr = gain.dtype.element_ty
    o_d = tl.arange(0, DP)
    b_gain = load_feature(gain, D, DP)
    b_gains, b_shifts = tl.zeros([DP], ACC), tl.zeros([DP], ACC)
    for block in range(BLOCKS):
        first = (i_m * BLOCKS + block) * BM
        m_m = first + tl.arange(0, BM) < rows
        b_hat, b_rstd = standardised(load_rows(x, first, m_m, D, DP, BM).to(ACC), eps, D, DP)
        if NORMED:
            store_rows(normed, b_hat * b_gain + load_feature(shift, D, DP), first, m_m, D, DP, BM)
        b_g = load_rows(grad, first, m_m, D, DP, BM).to(ACC)
        b_gains += tl.sum(b_g * b_hat, 0)
        b_shifts += tl.sum(b_g, 0)
        b_g = b_g * b_gain
        b_dx = (b_g - b_hat * (tl.sum(b_g * b_hat, 1) / D)[:, None] - (tl.sum(b_g, 1) / D)[:, None]) * b_rstd[:, None]
        if RESIDUAL:
            b_dx += load_rows(residual, first, m_m, D, DP, BM).to(ACC)
        store_rows(grad_x, b_dx, first, m_m, D, DP, BM)
    place = parts + i_m.to(tl.int64) * (2 * D) + o_d
    tl.store(place, b_gains, mask=o_d < D)
    tl.store(place + D, b_shifts, mask=o_d < D)


def _variants(width: int) -> Iterator[dict[str, Any]]:
    for residual in (True, False):
        yield {"D": width, "DP": width, "RESIDUAL": residual, "NORMED": not residual}


SHIPPED = {
    "norm_backward": Shipped(
        norm_backward_kernel,
        {"grad": "T", "x": "S", "gain": "fp32", "shift": "fp32", "residual": "S", "grad_x": "S",
         "normed": "T", "parts": "fp32"},
        (PADDED,), _variants,
        {"rows": "i32", "eps": "fp32"},
        matrix=False,
    ),
}  # fmt: skip


def exact(*vectors: Tensor) -> list[Tensor]:
    """In float32 at least and contiguous, as the kernels read gains, shifts and biases."""
    return [v.to(torch.promote_types(v.dtype, torch.float32)).contiguous() for v in vectors]


def norm_gradients(
    grad: Tensor, x: Tensor, gain: Tensor, shift: Tensor, eps: float, residual: Tensor | None, normed: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x [+ residual], gain and shift from that of the normalised rows, which fill `normed` if given."""
    rows, width = x.shape
    wide_gain, wide_shift = exact(gain, shift)
    tile = launch("norm_backward", x.device, width)
    programs = triton.cdiv(rows, tile["BM"] * tile["BLOCKS"])
    grad_x, parts = torch.empty_like(x), wide_gain.new_empty(programs, 2, width)
    if programs:
        norm_backward_kernel[programs,](
            grad, x, wide_gain, wide_shift, x if residual is None else residual, grad_x,
            x if normed is None else normed, parts, rows, eps, D=width, DP=padded(width),
            RESIDUAL=residual is not None, NORMED=normed is not None, **tile,
        )  # fmt: skip
    grad_gain, grad_shift = parts.sum(0).unbind(0)
    return grad_x, grad_gain.to(gain.dtype, copy=True), grad_shift.to(shift.dtype, copy=True)
