"""Clips with places for people: folded into the batch as they come, empty ones left out, and put back as zeros."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slim_fast.data.clips import coordinate_count


@dataclass(frozen=True)
class People:
    """The people of clips (B, C, T, V, M), one after the other."""

    clips: Tensor
    """(N, T, V, C): everybody, B * M, or only those in `rows`."""
    masks: Tensor | None
    """(N, T / patch, V) bool."""
    present: Tensor
    """(B, M) bool, who counts."""
    rows: Tensor | None
    """int64 (N,), which of the B * M places `clips` holds; None: all."""
    whole: bool
    """Whether everybody is known to count."""
    dtype: torch.dtype
    """Of the answers."""

    def spread(self, x: Tensor) -> Tensor:
        """(N, ...) -> (B * M, ...), zeros for the absent."""
        x = x.to(self.dtype)
        if self.whole:
            return x
        if self.rows is None:
            return torch.where(self.present.view(-1, *[1] * (x.dim() - 1)), x, 0)
        return x.new_zeros(self.present.numel(), *x.shape[1:]).index_copy(0, self.rows, x)


def present_people(x: Tensor, channels: str) -> Tensor:
    """(B, M) bool: which people of clips (B, C, T, V, M) have a coordinate other than zero. A confidence is none."""
    return (x[:, : coordinate_count(channels)] != 0).flatten(1, 3).any(1)


def fold(x: Tensor, masks: Tensor | None, present: Tensor | None, skip: bool, exact: torch.dtype) -> People:
    """x (B, C, T, V, M), masks (B * M, T / patch, V) bool, present (B, M) bool; None: everybody.

    skip: leave the absent out, whose number is read on the host; else they are computed and their answers dropped.
    exact: the dtype in which clips are read.
    """
    clips = x.to(exact).permute(0, 4, 2, 3, 1).flatten(0, 1)
    if present is None:
        everybody = torch.ones(x.shape[0], x.shape[4], dtype=torch.bool, device=x.device)
        return People(clips, masks, everybody, None, True, x.dtype)
    if not skip:
        return People(clips, masks, present, None, False, x.dtype)
    rows = present.flatten().nonzero()[:, 0]
    if len(rows) == present.numel():
        return People(clips, masks, present, None, True, x.dtype)
    return People(clips[rows], None if masks is None else masks[rows], present, rows, False, x.dtype)


def resample(x: Tensor, frames: int) -> Tensor:
    """Clips (B, C, T, V, M) of any length T >= 1 to `frames` frames, linearly, the first and last half frame held.

    Between a frame in which somebody is absent (zeros) and one in which they are not, nothing is mixed: the earlier
    frame counts.
    """
    length = x.shape[2]
    if length == frames:
        return x
    # (frames,)
    place = ((torch.arange(frames, device=x.device) + 0.5) * (length / frames) - 0.5).clamp(0, length - 1)
    below = place.long()
    lower, upper = x[:, :, below], x[:, :, (below + 1).clamp_max(length - 1)]
    share = (place - below).to(x.dtype)[:, None, None]
    here = ((frame != 0).any(3, keepdim=True).any(1, keepdim=True) for frame in (lower, upper))
    return torch.where(next(here) & next(here), torch.lerp(lower, upper, share), lower)
