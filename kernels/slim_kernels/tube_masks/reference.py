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
    """(DRAWN_AHEAD, NUMBERS, R) float32 in [0, 1) for the proposals from this one on."""
    bits = draw_bits(fold(keys, proposal), DRAWN_AHEAD * NUMBERS)
    return to_uniform(bits).mT.contiguous().view(DRAWN_AHEAD, NUMBERS, len(keys))


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
    time, column = (torch.arange(n, device=device).float()[:, None] for n in (longest, v))
    # Columns are in the order of the parts, so that a run of joints is a run of columns, and
    # numbers are floats: a mask is the product of two ranges, without indexing. Masks come last,
    # as operations are fast along the last axis.
    free = torch.ones(longest * v, len(budget), device=device)
    rows = budget.nonzero()[:, 0]  # the masks still growing, and their state
    grid, left, keys = free[:, : len(rows)].clone(), budget[rows].float(), keys[rows]
    tokens, least = tokens[rows].float(), least[rows].float()
    none, deadline = left.new_zeros(()), torch.full_like(left, PROPOSALS - 1)
    proposal = 0
    while len(rows):
        part, wide, where, share, late = draw(keys, proposal).unbind(1)  # (DRAWN_AHEAD, A)
        size, base = parts[(part * len(parts)).long()].unbind(-1)
        width = (wide * size).floor_() + 1
        first = (where * (size - width + 1)).floor_() + base
        runs = _within(column, first[:, None], width[:, None])  # (DRAWN_AHEAD, V, A)
        turn = torch.arange(proposal, proposal + DRAWN_AHEAD, device=device).float()
        for i in range(DRAWN_AHEAD):
            area = torch.lerp(least, left.clamp_max(most), share[i])
            height = area.div_(width[i]).round_().clamp_min_(1).minimum(tokens)
            start = (tokens - height).add_(1).mul_(late[i]).floor_()
            during = _within(time, start, height)
            taken = (during[:, None] * runs[i]).flatten(0, 1).mul_(grid)  # (T V, A)
            added = taken.sum(0)
            accepted = (added > none) & (added <= left) & (turn[i] <= deadline)
            taking = accepted.float()
            grid.addcmul_(taken, taking, value=-1)
            left.addcmul_(added, taking, value=-1)
            deadline.masked_fill_(accepted, proposal + PROPOSALS)
            proposal += 1
        free.scatter_(1, rows.expand_as(grid), grid)
        # finished masks leave, so that late proposals cost little
        going = ((left > 0) & (deadline >= proposal)).nonzero()[:, 0]
        state = rows, grid, left, keys, tokens, least, deadline
        rows, grid, left, keys, tokens, least, deadline = (x.index_select(-1, going) for x in state)
    free = free.view(longest, v, len(budget)).index_select(1, columns)
    return (free == 0).permute(2, 0, 1).contiguous()


def _within(position: Tensor, first: Tensor, count: Tensor) -> Tensor:
    """1.0 where first <= `position` < first + count, broadcast."""
    return ((position >= first) & (position < first + count)).float()


def padded(n: int) -> int:
    """The next power of 2, at least 8."""
    return max(8, 1 << max(n - 1, 0).bit_length())
