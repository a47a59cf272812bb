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
    present: Tensor | None
    """(B * M,) bool; None: everybody counts."""
    rows: Tensor | None
    """int64 (N,), which of the B * M places `clips` holds; None: all."""

    def spread(self, x: Tensor) -> Tensor:
        """(N, ...) -> (B * M, ...), zeros for the absent."""
        if self.present is None:
            return x
        if self.rows is None:
            return torch.where(self.present.view(-1, *[1] * (x.dim() - 1)), x, 0)
        return x.new_zeros(len(self.present), *x.shape[1:]).index_copy(0, self.rows, x)


def present_people(x: Tensor, channels: str) -> Tensor:
    """(B, M) bool: which people of clips (B, C, T, V, M) have a coordinate other than zero. A confidence is none."""
    return (x[:, : coordinate_count(channels)] != 0).flatten(1, 3).any(1)


def fold(x: Tensor, masks: Tensor | None, present: Tensor | None, skip: bool) -> People:
    """x (B, C, T, V, M), masks (B * M, T / patch, V) bool, present (B, M) bool.

    skip: leave the absent out, whose number is read on the host; else they are computed and their answers dropped.
    """
    clips = x.permute(0, 4, 2, 3, 1).flatten(0, 1)
    if present is None:
        return People(clips, masks, None, None)
    present = present.flatten()
    if not skip:
        return People(clips, masks, present, None)
    rows = present.nonzero()[:, 0]
    if len(rows) == len(present):
        return People(clips, masks, None, None)
    return People(clips[rows], None if masks is None else masks[rows], present, rows)


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
