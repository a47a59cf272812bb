"""The passes over features and prototypes that the loss is made of, each one launch of a kernel."""

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from slim_kernels.prototype_loss.triton_kernels import LOG2E, attend_kernel, log_sum_exp_kernel
from slim_kernels.prototype_loss.triton_sweeps import (
    GROUP,
    lse_of_columns_kernel,
    lse_of_rows_kernel,
    probabilities_kernel,
)
from slim_kernels.runtime.launch import launch
from slim_kernels.runtime.triton_rows import padded

# Programs that fill a large GPU; with fewer blocks the other axis is split, at most so often.
ENOUGH_PROGRAMS, MOST_SPLITS = 264, 8
# The same of sweeps, which have less to do for each byte; MOST_PARTS: splits of the rows.
ENOUGH_SWEEPS, MOST_PARTS = 1056, 64


def _split(size: int, tile: int, blocks: int, enough: int, most: int) -> tuple[int, int]:
    """Splits of an axis that is walked in tiles, for `blocks` blocks along the other, and how much
    of the axis each takes.
    """
    splits = max(1, min(most, enough // max(blocks, 1), triton.cdiv(size, tile)))
    span = triton.cdiv(triton.cdiv(size, splits), tile) * tile
    return triton.cdiv(size, span), span


def _plan(kernel: str, x: Tensor, columns: int) -> tuple[dict[str, int], int, int]:
    """Launch, splits of the columns, and columns of a split."""
    tile = launch(kernel, x.device, x.shape[1])
    blocks = triton.cdiv(len(x), tile["BM"])
    return tile, *_split(columns, tile["BN"], blocks, ENOUGH_PROGRAMS, MOST_SPLITS)


def log_sum_exp(
    x: Tensor, y: Tensor, bias: Tensor | None, temperature: float, dtype: torch.dtype
) -> Tensor:
    """log Σ_k exp(x_i · y_k / temperature + bias_k), (rows,), of operands x (rows, D) and y
    (columns, D).
    """
    (rows, width), columns = x.shape, len(y)
    if not rows or not columns:
        return torch.full((rows,), float("-inf"), dtype=dtype, device=x.device)
    tile, splits, span = _plan("log_sum_exp", x, columns)
    parts = torch.empty(splits, rows, dtype=dtype, device=x.device)
    log_sum_exp_kernel[triton.cdiv(rows, tile["BM"]), splits](
        x,
        y,
        x if bias is None else bias,
        parts,
        rows,
        columns,
        span,
        LOG2E.value / temperature,
        D=width,
        DP=padded(width),
        BIAS=bias is not None,
        PRECISION="ieee",
        **tile,
    )
    return parts[0] if splits == 1 else parts.logsumexp(0)


def attend(
    x: Tensor, y: Tensor, v: Tensor, bias: Tensor | None, temperature: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Σ_k softmax_k(x_i · y_k / temperature + bias_k) v_k, (rows, D); its log_sum_exp (rows,)."""
    (rows, width), columns = x.shape, len(y)
    if not rows or not columns:
        return x.new_zeros(rows, width, dtype=dtype), log_sum_exp(x, y, bias, temperature, dtype)
    tile, splits, span = _plan("attend", x, columns)
    parts = torch.empty(splits, rows, dtype=dtype, device=x.device)
    out = torch.empty(splits, rows, width, dtype=dtype, device=x.device)
    attend_kernel[triton.cdiv(rows, tile["BM"]), splits](
        x,
        y,
        v,
        x if bias is None else bias,
        out,
        parts,
        rows,
        columns,
        span,
        LOG2E.value / temperature,
        D=width,
        DP=padded(width),
        BIAS=bias is not None,
        SAME=v is y,
        PRECISION="ieee",
        **tile,
    )
    if splits == 1:
        return out[0], parts[0]
    lse = parts.logsumexp(0)
    portion = torch.where(lse == float("-inf"), 0.0, (parts - lse).exp())  # (splits, rows)
    return (out * portion[..., None]).sum(0), lse


def lse_of_columns(
    logits: Tensor, columns: int, bias: Tensor | None, temperature: float, dtype: torch.dtype
) -> Tensor:
    """log Σ_i exp(logits_ik / temperature + bias_i), (columns,), of the first columns of stored
    cosines (rows, a multiple of GROUP).
    """
    rows, tile = len(logits), launch("lse_of_columns", logits.device)
    if not rows:
        return torch.full((columns,), float("-inf"), dtype=dtype, device=logits.device)
    blocks = triton.cdiv(columns, tile["BN"])
    splits, span = _split(rows, tile["BM"], blocks, ENOUGH_SWEEPS, MOST_PARTS)
    parts = torch.empty(splits, columns, dtype=dtype, device=logits.device)
    lse_of_columns_kernel[blocks, splits](
        logits,
        parts if bias is None else bias,
        parts,
        rows,
        columns,
        logits.shape[1] // GROUP,
        span // tile["BM"],
        LOG2E.value / temperature,
        BIAS=bias is not None,
        **tile,
    )
    return parts[0] if splits == 1 else parts.logsumexp(0)


def lse_of_rows(
    logits: Tensor, columns: int, bias: Tensor | None, temperature: float, dtype: torch.dtype
) -> Tensor:
    """log Σ_k exp(logits_ik / temperature + bias_k), (rows,), over the first columns of stored
    cosines.
    """
    rows, tile = len(logits), launch("lse_of_rows", logits.device)
    blocks = triton.cdiv(rows, tile["BM"])
    splits, span = _split(columns, tile["BN"], blocks, ENOUGH_SWEEPS, MOST_SPLITS)
    parts = torch.empty(splits, rows, dtype=dtype, device=logits.device)
    if rows:
        lse_of_rows_kernel[blocks, splits](
            logits,
            parts if bias is None else _whole_groups(bias, logits),
            parts,
            rows,
            columns,
            logits.shape[1] // GROUP,
            span // tile["BN"],
            LOG2E.value / temperature,
            BIAS=bias is not None,
            **tile,
        )
    return parts[0] if splits == 1 else parts.logsumexp(0)


def to_probabilities(
    logits: Tensor,
    columns: int,
    bias: Tensor | None,
    lse: Tensor,
    temperature: float,
    other: tuple[Tensor, Tensor, float] | None = None,
) -> Tensor:
    """Stored cosines become SCALE · t, t = exp(logits_ik / temperature + bias_k - lse_i), in place.

    other: another softmax' logits, lse and temperature, with which they become SCALE · (t - p);
    then Σ_k t_ik s_ik, (rows,), of its logits / temperature is returned.
    """
    rows, tile = len(logits), launch("probabilities", logits.device)
    blocks = triton.cdiv(rows, tile["BM"])
    splits, span = _split(columns, tile["BN"], blocks, ENOUGH_SWEEPS, MOST_SPLITS)
    scores, other_lse, other_temperature = (logits, lse, 1.0) if other is None else other
    expected = torch.empty(splits if other else 0, rows, dtype=lse.dtype, device=lse.device)
    if rows:
        probabilities_kernel[blocks, splits](
            logits,
            lse if bias is None else _whole_groups(bias, logits),
            lse,
            scores,
            other_lse,
            expected,
            rows,
            columns,
            logits.shape[1] // GROUP,
            span // tile["BN"],
            LOG2E.value / temperature,
            LOG2E.value / other_temperature,
            BIAS=bias is not None,
            OTHER=other is not None,
            **tile,
        )
    return expected.sum(0)


def _whole_groups(bias: Tensor, logits: Tensor) -> Tensor:
    """As long as a row of logits, so that the kernels may read it as they read a row."""
    missing = logits.shape[1] - len(bias)
    return F.pad(bias, (0, missing)) if missing else bias
