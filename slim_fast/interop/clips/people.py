"""The people of clips: who is present, folding them into the batch, resampling in time."""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from slim_fast.data.clips import count_coordinates
from slim_fast.interop.clips.checks import static_shape

SPREAD, ROUNDING = 1e-3, 1e-5  # see `find_present_people`


@dataclass(frozen=True)
class PeopleBatch:
    """The people of clips (B, C, T, V, M), folded into the batch."""

    clips: Tensor
    """(N, T, V, C): all B * M people, or only those of `rows`."""
    masks: Tensor | None
    """(N, T / patch, V) bool."""
    present: Tensor
    """(B, M) bool, who is present: the others' outputs are zeros."""
    rows: Tensor | None
    """int64 (N,), which of the B * M people `clips` holds; None: all."""
    is_full: bool
    """Whether all people are known to be present."""
    dtype: torch.dtype
    """Of the outputs."""

    def scatter(self, x: Tensor) -> Tensor:
        """(N, ...) -> (B * M, ...), zeros for the absent."""
        x = x.to(self.dtype)
        if self.is_full:
            return x
        if self.rows is None:
            return torch.where(self.present.view(-1, *[1] * (x.dim() - 1)), x, 0)
        return x.new_zeros(self.present.numel(), *x.shape[1:]).index_copy(0, self.rows, x)


def zero_undetected(x: Tensor, channels: str) -> Tensor:
    """Clips (B, C, T, V, M) with zeros for joints of confidence 0, which feeders may have moved."""
    return torch.where(x[:, -1:] > 0, x, 0) if channels.endswith("c") else x


def find_present_people(x: Tensor, channels: str) -> Tensor:
    """(B, M) bool: the people of clips (B, C, T, V, M) whose joints spread.

    A person's spread is the largest extent of their joints along an axis in any one frame. Present
    people have more than SPREAD of the largest spread in their clip, and more than ROUNDING of
    their own largest coordinate, in any units: zeros are absent, and so is a person whom a feeder's
    centring or augmentation made one point, or tiny beside the others. Joints at zero count in a
    spread: one joint elsewhere is enough. For skeletons of one joint the coordinate itself counts.
    Confidences do not. People with NaN or infinite coordinates are present, so that their outputs
    show it.
    """
    x = x[:, : count_coordinates(channels)].detach()
    if static_shape(x)[4] == 0:
        return x.new_ones(x.shape[0], 0, dtype=torch.bool)
    highest, lowest = x.amax(3), x.amin(3)  # (B, C, T, M)
    size = torch.maximum(highest, -lowest).amax((1, 2))  # (B, M)
    spread = (highest - lowest).amax((1, 2)) if static_shape(x)[3] > 1 else size
    return is_present(spread, _finite(spread).amax(1, keepdim=True), _finite(size))


def is_present(spread: Any, largest: Any, size: Any) -> Any:
    """The rule of `find_present_people`, of tensors or arrays: each one's spread, the largest in
    the clip, and each one's largest coordinate.
    """
    return ~((spread <= SPREAD * largest) | (spread <= ROUNDING * size))


def _finite(x: Tensor) -> Tensor:
    """x, which is not negative, with 0 for NaN and infinity; in ONNX without IsInf, as TensorRT."""
    return torch.where(x < torch.inf, x, 0)


def fold_people(
    x: Tensor, masks: Tensor | None, present: Tensor | None, skip: bool, dtype: torch.dtype
) -> PeopleBatch:
    """Fold the people of clips (B, C, T, V, M) into the batch.

    Args:
        masks: (B * M, T / patch, V) bool, or None.
        present: (B, M) bool; None: all.
        skip: leave absent people out, which reads their number on the host; else they are computed
            and their outputs zeroed.
        dtype: of the folded clips.
    """
    clips = rearrange(x.to(dtype), "b c t v m -> (b m) t v c")
    if present is None:
        all_present = torch.ones(x.shape[0], x.shape[4], dtype=torch.bool, device=x.device)
        return PeopleBatch(clips, masks, all_present, None, True, x.dtype)
    if not skip:
        return PeopleBatch(clips, masks, present, None, False, x.dtype)
    rows = present.flatten().nonzero()[:, 0]
    if len(rows) == present.numel():
        return PeopleBatch(clips, masks, present, None, True, x.dtype)
    return PeopleBatch(
        clips[rows], None if masks is None else masks[rows], present, rows, False, x.dtype
    )


def resample(x: Tensor, frames: int, channels: str) -> Tensor:
    """Resample clips (B, C, T, V, M), T >= 1, linearly to `frames` frames.

    Each frame stands for the middle of its interval, so the first and last half frame are constant.
    A joint that is undetected (zeros) in one of two neighbouring frames is taken from the earlier
    one instead of interpolated.
    """
    length = x.shape[2]
    if length == frames:
        return x
    middle = torch.arange(frames, device=x.device) + 0.5
    position = (middle * (length / frames) - 0.5).clamp(0, length - 1)  # (frames,)
    below = position.long()
    lower, upper = x[:, :, below], x[:, :, (below + 1).clamp_max(length - 1)]
    weight = (position - below).to(x.dtype)[:, None, None]
    coordinates = slice(count_coordinates(channels))
    is_detected = [(frame[:, coordinates] != 0).any(1, keepdim=True) for frame in (lower, upper)]
    between = torch.lerp(lower, upper, weight)
    return torch.where(is_detected[0] & is_detected[1], between, lower)
