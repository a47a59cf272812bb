"""The launch of tube_masks' kernel."""

import torch
from torch import Tensor

from slim_kernels.runtime.launch import launch
from slim_kernels.tube_masks.reference import padded
from slim_kernels.tube_masks.triton_kernels import tube_masks_kernel


def tube_masks(
    budget: Tensor,
    tokens: Tensor,
    least: Tensor,
    keys: Tensor,
    parts: Tensor,
    columns: Tensor,
    most: int,
    longest: int,
) -> Tensor:
    """See `slim_kernels.tube_masks`."""
    joints, times = padded(len(columns)), padded(longest)
    out = budget.new_empty(len(budget), longest, len(columns), dtype=torch.bool)
    if out.numel():
        tube_masks_kernel[len(budget),](
            *(x.contiguous() for x in (budget, tokens, least, keys, parts, columns)),
            out,
            most,
            longest,
            P=len(parts),
            V=len(columns),
            VP=joints,
            TP=times,
            **launch("tube_masks", budget.device, joints * times),
        )
    return out
