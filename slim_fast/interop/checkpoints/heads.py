"""Trained heads of other trainers, under their names, as one linear layer."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_PROBE_EPS = 1e-6
"""Of the BatchNorm1d that MAMP's linear probing puts before the head; not stored in checkpoints."""


def split_head(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An encoder's tensors with its head as head.weight and head.bias, and the head's settings.

    The head is `head`, a linear layer of any name after an optional batch norm, which is folded
    into it as in eval mode; or PYSKL's and mmaction2's `cls_head` beside a `backbone`, which reads
    the mean patch of the mean person. Other tensors beside a backbone are left out. A head of more
    layers keeps its names, and fits no classifier.
    """
    backbone = {
        k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")
    }
    weights = {k: v for k, v in (backbone or tensors).items() if not k.startswith("head.")}
    pools = {"pool": "mean", "people_pool": "mean"} if backbone else {}
    prefix = "cls_head." if backbone else "head."
    head = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    linear = [
        k.removesuffix("weight")
        for k, v in head.items()
        if k.split(".")[-1] == "weight" and v.dim() == 2
    ]
    norm = [k.removesuffix("running_mean") for k in head if k.split(".")[-1] == "running_mean"]
    if not head:
        return weights, {}
    if len(linear) != 1 or len(norm) > 1 or not all(k.startswith((linear[0], *norm)) for k in head):
        return {**weights, **{f"head.{k}": v for k, v in head.items()}}, {}
    weight = head[linear[0] + "weight"]
    bias = head.get(linear[0] + "bias", weight.new_zeros(len(weight)))
    if norm:
        parts = [
            head.get(norm[0] + part) for part in ("running_mean", "running_var", "weight", "bias")
        ]
        weight, bias = fold_batch_norm(weight, bias, *parts, eps=_PROBE_EPS)  # type: ignore[arg-type]
    return {**weights, "head.weight": weight, "head.bias": bias}, {
        "num_classes": len(weight),
        **pools,
    }


def fold_batch_norm(
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    *,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Fold a batch norm in eval mode, (F,) each, into the weight (K, F) and bias (K,) after it."""
    scale = (variance.double() + eps).rsqrt() * (1 if norm_weight is None else norm_weight.double())
    folded = weight.double() * scale
    folded_bias = (
        bias.double()
        + weight.double() @ (0 * mean if norm_bias is None else norm_bias).double()
        - folded @ mean.double()
    )
    return folded.to(weight), folded_bias.to(bias)
