"""The passes over features and prototypes that the loss is made of, each one launch of a kernel."""

import torch
import triton
from torch import Tensor

from slim_kernels.prototype_loss.triton_kernels import LOG2E, attend_kernel, log_sum_exp_kernel
from slim_kernels.runtime.launch import launch
from slim_kernels.runtime.triton_rows import padded

# Programs that fill a large GPU; with fewer blocks of rows the columns are split, at most so often.
ENOUGH_PROGRAMS, MOST_SPLITS = 264, 8


def _plan(kernel: str, x: Tensor, columns: int) -> tuple[dict[str, int], int, int]:
    """Launch, splits of the columns, and columns of a split."""
    tile = launch(kernel, x.device, x.shape[1])
    blocks = triton.cdiv(len(x), tile["BM"])
    splits = max(
        1, min(MOST_SPLITS, ENOUGH_PROGRAMS // max(blocks, 1), triton.cdiv(columns, tile["BN"]))
    )
    span = triton.cdiv(triton.cdiv(columns, splits), tile["BN"]) * tile["BN"]
    return tile, triton.cdiv(columns, span), span


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
        PRECISION="ieee",
        **tile,
    )
    if splits == 1:
        return out[0], parts[0]
    lse = parts.logsumexp(0)
    portion = torch.where(lse == float("-inf"), 0.0, (parts - lse).exp())  # (splits, rows)
    return (out * portion[..., None]).sum(0), lse
