"""Matrix products on a CPU by oneDNN, where it has them, or as PyTorch would. None of them records
gradients.

In float32 PyTorch asks MKL, whose products took twice as long on the AMD processors that we
measured.
"""

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

_ONEDNN: Any = (
    getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if torch.backends.mkldnn.is_available()
    else None
)

# Rows that packed weights are laid out for; what is best for these is good for others.
_PACKED_FOR = 1024


def linear(x: Tensor, weight: Tensor, bias: Tensor, *, silu: bool = False) -> Tensor:
    """x weightᵀ + bias, through SiLU if wished: x (n, D), weight (E, D), which may be `packed`,
    bias (E,) -> (n, E).
    """
    if weight.is_mkldnn or (_onednn_takes(x, weight) and bias.dtype == x.dtype):
        if not len(x):
            return x.new_empty(0, len(bias))
        # it ignores the bias's strides
        y: Tensor = _ONEDNN(
            x, _dense(weight), bias.contiguous(), "swish" if silu else "none", [], ""
        )
        return y
    y = F.linear(x, weight, bias)
    return F.silu(y, inplace=True) if silu else y


def pack_weight(weight: Tensor) -> Tensor:
    """The weight (E, D) in the layout that `linear` reads fastest; good for nothing else, and no
    later change shows.
    """
    if not _onednn_takes(weight, weight):
        return weight.clone()
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _PACKED_FOR)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a b: (n, k), (k, m) -> (n, m)."""
    # oneDNN is slow where it must transpose a large first factor.
    if a.dtype == torch.float32 and _onednn_takes(a, b) and a.stride(1) == 1:
        y: Tensor = _ONEDNN(a, _dense(b.t()), None, "none", [], "")
        return y
    return a @ b


def add_matmul(out: Tensor, a: Tensor, b: Tensor) -> None:
    """out += a b, also where out is of a wider dtype than the product."""
    if out.dtype == a.dtype and not (
        a.dtype == torch.float32 and a.stride(1) == 1 and _onednn_takes(a, b)
    ):
        torch.addmm(out, a, b, out=out)
    else:
        out += matmul(a, b)


def _dense(weight: Tensor) -> Tensor:
    """The weight without gaps between its rows or columns: with gaps, oneDNN's products take
    hundreds of times as long.
    """
    if weight.is_mkldnn or weight.is_contiguous() or weight.t().is_contiguous():
        return weight
    return weight.contiguous()


def _onednn_takes(x: Tensor, weight: Tensor) -> bool:
    if (
        _ONEDNN is None
        or x.dtype != weight.dtype
        or not x.numel()
        or not weight.numel()
        or x.device.type != "cpu"
    ):
        return False
    known = x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and _bfloat16_known())
    return known and bool(torch.backends.mkldnn.enabled)


@lru_cache
def _bfloat16_known() -> bool:
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _count_flops(x: torch.Size, weight: torch.Size, *_rest: object, **_named: object) -> int:
    return 2 * x[0] * weight[0] * weight[1]


if _ONEDNN is not None:
    register_flop_formula(_ONEDNN)(_count_flops)
