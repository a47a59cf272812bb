"""tube_masks in PyTorch's operations: all masks together, proposal by proposal."""

import torch
from torch import Tensor

from slim_kernels.runtime.counter_random import draw_bits, fold, to_uniform

PROPOSALS = 10
"""Refusals in a row that end a mask."""
DRAWN_AHEAD = 8
"""Proposals whose random numbers are drawn at once: fewer, larger operations."""
NUMBERS = 5
"""Random numbers of a proposal."""


def draw(keys: Tensor, proposal: int) -> Tensor:
    """(R, DRAWN_AHEAD, NUMBERS) float32 in [0, 1) for the proposals from this one on."""
    bits = draw_bits(fold(keys, proposal), DRAWN_AHEAD * NUMBERS)
    return to_uniform(bits).unflatten(1, (DRAWN_AHEAD, NUMBERS))


def reference(
    budget: Tensor,
    tokens: Tensor,
    least: Tensor,
    keys: Tensor,
    parts: Tensor,
    columns: Tensor,
    most: int,
    longest: int,
) -> Tensor:
    """See `slim_kernels.tube_masks`. Reads on the host which masks still grow."""
    device, v = budget.device, len(columns)
    time, column = torch.arange(longest, device=device), torch.arange(v, device=device)
    # Columns are in the order of the parts, so that a run of joints is a run of columns, and
    # numbers are floats: a mask is the product of two ranges, without indexing.
    free = torch.ones(len(budget), longest, v, device=device)
    rows = budget.nonzero()[:, 0]  # the masks still growing, and their state
    grid, left, keys = free[rows], budget[rows].float(), keys[rows]
    tokens, least = tokens[rows].float(), least[rows].float()
    refusals, draws = torch.zeros_like(left), torch.empty(0)
    proposal = 0
    while len(rows):
        if proposal % DRAWN_AHEAD == 0:
            draws = draw(keys, proposal)
        u = draws[:, proposal % DRAWN_AHEAD].unbind(-1)
        size, base = parts[(u[0] * len(parts)).long()].unbind(-1)
        width = (u[1] * size).floor_() + 1
        first = (u[2] * (size - width + 1)).floor_() + base
        area = torch.lerp(least, left.clamp_max(most), u[3])
        height = (area / width).round_().clamp_min_(1).minimum(tokens)
        start = (u[4] * (tokens - height + 1)).floor_()
        during, joints = _within(time, start, height), _within(column, first, width)
        taken = during[:, :, None] * joints[:, None] * grid  # (A, T, V)
        added = taken.sum((1, 2))
        accepted = (added > 0) & (added <= left)
        grid = grid.addcmul(taken, accepted[:, None, None], value=-1)
        left = left - added * accepted
        refusals = torch.where(accepted, 0, refusals + 1)
        going = (left > 0) & (refusals < PROPOSALS)
        if not bool(going.all()):  # finished masks leave, so that late proposals cost little
            free[rows[~going]] = grid[~going]
            rows, grid, left, keys = rows[going], grid[going], left[going], keys[going]
            tokens, least = tokens[going], least[going]
            refusals, draws = refusals[going], draws[going]
        proposal += 1
    return (free == 0)[..., columns]


def _within(position: Tensor, first: Tensor, count: Tensor) -> Tensor:
    """(A, n) 1.0 where first <= `position` (n,) < first + count, both (A,)."""
    offset = position - first[:, None]
    return ((offset >= 0) & (offset < count[:, None])).float()


def padded(n: int) -> int:
    """The next power of 2, at least 8."""
    return max(8, 1 << max(n - 1, 0).bit_length())
