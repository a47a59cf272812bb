"""Token masks: semantic tubes (paper section 3.2), and random or motion-aware ones to compare."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from slim_fast.limits import Positive, Share, check_interval
from slim_fast.skeletons import Topology
from slim_fast.views.random_stream import RandomStream

PROPOSALS = 10
_DRAWN_AHEAD = 8  # proposals whose random numbers are drawn at once: fewer, larger operations


@dataclass
class MaskConfig:
    """Which tokens the student does not see."""

    kind: Literal["tube", "random", "motion"] = "tube"
    """tube: runs of joints of a part over time; random: single tokens; motion: moving tokens."""
    ratio: tuple[Share, Share] = (0.5, 0.9)
    """Share of a masked view's tokens that is masked, stratified over the batch."""
    global_share: Share = 0.5
    """Share of the global views that is masked."""
    local: bool = True
    """Mask every local view, as an augmentation."""
    shuffle_local: bool = True
    """Shuffle the local views' ratios over the batch; the release leaves them in order."""
    motion_temperature: Positive = 0.75
    """Temperature of motion-aware masking, relative to the largest motion of the view."""

    def __post_init__(self) -> None:
        check_interval("views.mask.ratio", self.ratio)


def stratified_ratios(count: int, interval: tuple[float, float], stream: RandomStream) -> Tensor:
    """(count,) float32, ascending, one from each of `count` strata of `interval`; one key."""
    low, high = interval
    stratum = torch.arange(count, device=stream.keys.device)
    return low + (high - low) * (stratum + stream.uniform(count)) / max(count, 1)


def shuffle(values: Tensor, stream: RandomStream) -> Tensor:
    """The entries of a vector in random order. stream: a single key."""
    return values[stream.uniform(len(values)).argsort()]


class TubeMasker:
    """Semantic tube masks: runs of neighbouring joints of a body part over some time."""

    def __init__(self, topology: Topology, device: torch.device | str = "cpu") -> None:
        order = [joint for joints in topology.parts.values() for joint in joints]
        sizes = torch.tensor([len(joints) for joints in topology.parts.values()])
        # (P, 2) size, first column
        self._parts = torch.stack([sizes, sizes.cumsum(0) - sizes], 1).float().to(device)
        self._column_of_joint = torch.tensor(order).argsort().to(device)

    def __call__(
        self, budget: Tensor, tokens: Tensor, min_area: Tensor, max_area: int, stream: RandomStream
    ) -> Tensor:
        """Masks of at most `budget` cells each.

        A tube: a part, a run of 1..size joints of it (w wide), a target area uniform in [min_area,
        min(budget left, max_area)], round(area / w) tokens of time clamped to 1..tokens. It is
        taken when it adds cells, but not more than are left; after PROPOSALS refusals in a row the
        mask stays as it is.

        Args:
            budget: (R,) int64 cells to mask.
            tokens: (R,) int64 temporal tokens of each view.
            min_area: (R,) int64.
            stream: (R,) keys.

        Returns: (R, T, V) bool, T the most tokens of a view; no token past a view's own is masked.
        """
        device, v = budget.device, len(self._column_of_joint)
        longest = int(tokens.max()) if len(tokens) else 0
        time, column = torch.arange(longest, device=device), torch.arange(v, device=device)
        # Columns are in the order of the parts, so that a run of joints is a run of columns, and
        # numbers are floats: a mask is the product of two ranges, without indexing.
        free = torch.ones(len(budget), longest, v, device=device)
        rows = budget.nonzero()[:, 0]  # the masks still growing, and their state
        grid, left, keys = free[rows], budget[rows].float(), stream[rows]
        tokens, min_area = tokens[rows].float(), min_area[rows].float()
        refusals, draws = torch.zeros_like(left), torch.empty(0)
        proposal = 0
        while len(rows):
            if proposal % _DRAWN_AHEAD == 0:
                draws = keys.fold_in(proposal).uniform(_DRAWN_AHEAD, 5)
            u = draws[:, proposal % _DRAWN_AHEAD].unbind(-1)
            size, base = self._parts[(u[0] * len(self._parts)).long()].unbind(-1)
            width = (u[1] * size).floor_() + 1
            first = (u[2] * (size - width + 1)).floor_() + base
            area = torch.lerp(min_area, left.clamp_max(max_area), u[3])
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
                tokens, min_area = tokens[going], min_area[going]
                refusals, draws = refusals[going], draws[going]
            proposal += 1
        return (free == 0)[..., self._column_of_joint]


def _within(position: Tensor, first: Tensor, count: Tensor) -> Tensor:
    """(A, n) 1.0 where first <= `position` (n,) < first + count, both (A,)."""
    offset = position - first[:, None]
    return ((offset >= 0) & (offset < count[:, None])).float()


def scored_masks(scores: Tensor, budget: Tensor) -> Tensor:
    """Mask the `budget` (R,) highest of `scores` (R, T, V) -> bool of the same shape."""
    rank = scores.flatten(1).argsort(1, descending=True).argsort(1)
    return (rank < budget[:, None]).view_as(scores)


def random_masks(budget: Tensor, tokens: int, joints: int, stream: RandomStream) -> Tensor:
    """Masks of exactly `budget` (R,) uniformly chosen cells: (R, tokens, joints) bool."""
    return scored_masks(stream.uniform(tokens, joints), budget)


def motion_masks(
    views: Tensor, budget: Tensor, patch: int, temperature: float, stream: RandomStream
) -> Tensor:
    """Motion-aware masks (MAMP, Mao et al. 2023): the more a cell moves, the likelier.

    views (R, w, V, C), budget (R,), stream keys (R,) -> (R, w / patch, V) bool.
    """
    motion = torch.zeros_like(views)
    # a joint that is lost or found again does not move by that
    detected = views.any(-1, keepdim=True)
    motion[:, 1:] = (views[:, 1:] - views[:, :-1]).abs() * (detected[:, 1:] & detected[:, :-1])
    intensity = motion.unflatten(1, (-1, patch)).mean((2, 4))  # (R, T, V)
    intensity = intensity / (intensity.amax((1, 2), keepdim=True) * temperature + 1e-10)
    gumbel = -(-(stream.uniform(*intensity.shape[1:]) + 2.0**-25).log()).log()
    return scored_masks(intensity + gumbel, budget)
