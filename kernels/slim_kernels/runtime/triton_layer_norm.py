"""The gradients of a LayerNorm as one Triton kernel: reads rows once, writes gradients once."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from slim_kernels.runtime.launch import KernelSpec, launch
from slim_kernels.runtime.triton_rows import (
    WIDTHS,
    load_feature,
    load_rows,
    padded,
    standardised,
    store_rows,
)


@triton.jit(do_not_specialize=["rows", "eps"])
def norm_backward_kernel(
    grad,
    x,
    gamma,
    beta,
    residual,
    grad_x,
    normed,
    parts,
    rows,
    eps,
    D: tl.constexpr,
    DP: tl.constexpr,
    RESIDUAL: tl.constexpr,
    NORMED: tl.constexpr,
    BM: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """From the normalised rows' gradient: the rows' own [+ residual], [the normalised rows,] and in
    parts (programs, 2, D) this program's share of the gamma's and the beta's gradients. A program
    takes BLOCKS blocks of rows.
    """
    i_m = tl.program_id(0)
    ACC: tl.constexpr = gamma.dtype.element_ty
    o_d = tl.arange(0, DP)
    b_gamma = load_feature(gamma, D, DP)
    b_dgamma, b_dbeta = tl.zeros([DP], ACC), tl.zeros([DP], ACC)
    for block in range(BLOCKS):
        first = (i_m * BLOCKS + block) * BM
        m_m = first + tl.arange(0, BM) < rows
        b_hat, b_rstd = standardised(load_rows(x, first, m_m, D, DP, BM).to(ACC), eps, D, DP)
        if NORMED:
            store_rows(normed, b_hat * b_gamma + load_feature(beta, D, DP), first, m_m, D, DP, BM)
        b_g = load_rows(grad, first, m_m, D, DP, BM).to(ACC)
        b_dgamma += tl.sum(b_g * b_hat, 0)
        b_dbeta += tl.sum(b_g, 0)
        b_g = b_g * b_gamma
        b_dx = (
            b_g - b_hat * (tl.sum(b_g * b_hat, 1) / D)[:, None] - (tl.sum(b_g, 1) / D)[:, None]
        ) * b_rstd[:, None]
        if RESIDUAL:
            b_dx += load_rows(residual, first, m_m, D, DP, BM).to(ACC)
        store_rows(grad_x, b_dx, first, m_m, D, DP, BM)
    offsets = parts + i_m.to(tl.int64) * (2 * D) + o_d
    tl.store(offsets, b_dgamma, mask=o_d < D)
    tl.store(offsets + D, b_dbeta, mask=o_d < D)


def _variants(width: int) -> Iterator[dict[str, Any]]:
    for residual, normed in itertools.product((True, False), repeat=2):
        sizes = {"D": width, "DP": padded(width), "RESIDUAL": residual, "NORMED": normed}
        yield {**sizes, "normed": "T" if normed else "S"}


KERNELS = {
    "norm_backward": KernelSpec(
        norm_backward_kernel,
        {
            "grad": "T",
            "x": "S",
            "gamma": "fp32",
            "beta": "fp32",
            "residual": "S",
            "grad_x": "S",
            "normed": "T",
            "parts": "fp32",
        },
        (WIDTHS,),
        _variants,
        {"rows": "i32", "eps": "fp32"},
        matrix=False,
    )
}


def exact(*vectors: Tensor) -> list[Tensor]:
    """In float32 at least and contiguous, as the kernels read gains, shifts and biases."""
    return [v.to(torch.promote_types(v.dtype, torch.float32)).contiguous() for v in vectors]


def norm_gradients(
    grad: Tensor,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    residual: Tensor | None,
    normed: Tensor | None,
    wanted: Sequence[bool],
) -> list[Tensor]:
    """Gradients of x [+ residual], gamma and beta, empty where they are not wanted, from that of
    the normalised rows, which fill `normed` if given.
    """
    rows, width = x.shape
    wide_gamma, wide_beta = exact(gamma, beta)
    tile = launch("norm_backward", x.device, width)
    programs = triton.cdiv(rows, tile["BM"] * tile["BLOCKS"])
    grad_x, parts = torch.empty_like(x), wide_gamma.new_empty(programs, 2, width)
    if programs:
        norm_backward_kernel[programs,](
            grad,
            x,
            wide_gamma,
            wide_beta,
            x if residual is None else residual,
            grad_x,
            x if normed is None else normed,
            parts,
            rows,
            eps,
            D=width,
            DP=padded(width),
            RESIDUAL=residual is not None,
            NORMED=normed is not None,
            **tile,
        )
    return [
        grad_x if wanted[0] else x.new_empty(0),
        parts[:, 0].sum(0).to(gamma.dtype) if wanted[1] else x.new_empty(0),
        parts[:, 1].sum(0).to(beta.dtype) if wanted[2] else x.new_empty(0),
    ]
