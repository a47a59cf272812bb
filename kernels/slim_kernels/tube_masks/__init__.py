"""Masks of runs of neighbouring joints over some time (paper section 3.2)."""

import torch
from torch import Tensor

from slim_kernels.runtime.dispatch import uses_triton
from slim_kernels.runtime.registration import kernel_op
from slim_kernels.tube_masks.reference import padded, reference

__all__ = ["tube_masks"]

MOST_CELLS = 8192
"""Of a mask, padded, that one program holds."""


@kernel_op("slim_kernels::tube_masks")
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
    """Masks of at most `budget` cells each.

    A tube: a part, a run of 1..size joints of it (w wide), a target area uniform in [least,
    min(budget left, most)], round(area / w) tokens of time clamped to 1..tokens. It is taken when
    it adds cells, but not more than are left; after ten refusals in a row the mask stays as it is.

    Args:
        budget: (R,) int64 cells to mask.
        tokens: (R,) int64 temporal tokens of each view, at most `longest`.
        least: (R,) int64.
        keys: (R,) int64, of the counter-based random numbers.
        parts: (P, 2) float32, each part's number of joints and its first column.
        columns: (V,) int64, the column of each joint when they are in the order of the parts.
        most, longest: numbers.

    Returns: (R, longest, V) bool; no token past a view's own is masked. The same on every device.
    With the Triton kernel the host reads nothing; else it reads which masks still grow.
    """
    cells = padded(len(columns)) * padded(longest)
    obstacle = "" if cells <= MOST_CELLS else f"masks of more than {MOST_CELLS} cells"
    arguments = (budget, tokens, least, keys, parts, columns, most, longest)
    if not uses_triton("tube_masks", budget, torch.float16, obstacle):
        return reference(*arguments)
    from slim_kernels.tube_masks import triton  # only where triton is installed

    return triton.tube_masks(*arguments)


@tube_masks.register_fake
def _(
    budget: Tensor,
    tokens: Tensor,
    least: Tensor,
    keys: Tensor,
    parts: Tensor,
    columns: Tensor,
    most: int,
    longest: int,
) -> Tensor:
    return budget.new_empty(budget.shape[0], longest, columns.shape[0], dtype=torch.bool)
