"""Token masks: semantic tubes (paper section 3.2), and random or motion-aware ones to compare."""

from dataclasses import dataclass
from typing import Literal

import torch
from slim_kernels.tube_masks import tube_masks
from torch import Tensor

from slim_fast.limits import Positive, Share, check_interval
from slim_fast.skeletons import Topology
from slim_fast.views.random_stream import RandomStream


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
        self,
        budget: Tensor,
        tokens: Tensor,
        min_area: Tensor,
        max_area: int,
        stream: RandomStream,
        longest: int | None = None,
    ) -> Tensor:
        """Masks of at most `budget` cells each, see `slim_kernels.tube_masks`.

        Args:
            budget: (R,) int64 cells to mask.
            tokens: (R,) int64 temporal tokens of each view.
            min_area: (R,) int64.
            stream: (R,) keys.
            longest: the most tokens of a view; None: it is read on the host.

        Returns: (R, longest, V) bool; no token past a view's own is masked.
        """
        if longest is None:
            longest = int(tokens.max()) if len(tokens) else 0
        tables = self._parts, self._column_of_joint
        return tube_masks(budget, tokens, min_area, stream.keys, *tables, max_area, longest)


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
