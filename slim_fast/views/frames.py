"""Which frames a view takes: crop, ping-pong extension, window (paper section 3.2)."""

import torch
from torch import Tensor

from slim_fast.views.random_stream import RandomStream

MIN_FRAMES = 150


def extended_length(frames: Tensor) -> Tensor:
    """Length of a clip extended to MIN_FRAMES or more by whole time-reversed copies."""
    return frames * torch.div(MIN_FRAMES + frames - 1, frames, rounding_mode="floor").clamp_min(1)


def ping_pong_index(position: Tensor, frames: Tensor) -> Tensor:
    """Frame (0 .. frames - 1) that stands at `position` of the ping-pong extended clip."""
    phase = position % (2 * frames)
    return torch.minimum(phase, 2 * frames - 1 - phase)


def shortest_crop(window: int) -> int:
    """Frames that a crop for a view of `window` frames has at least, where there are as many."""
    return min(max(window, 8), 16)


def crop(
    available: Tensor, window: int, interval: tuple[float, float], stream: RandomStream
) -> tuple[Tensor, Tensor]:
    """Uniform start and length floor(available · p) of a crop, at least `shortest_crop`.

    available: int64 (...,) frames to choose from; stream: keys of the same shape. Returns (start,
    length), int64.
    """
    low, high = interval
    u = stream.uniform(2)
    length = (available * (low + (high - low) * u[..., 0])).long()
    length = torch.minimum(length.clamp_min(shortest_crop(window)), available)
    # float32 may round up to the end
    start = ((available - length + 1) * u[..., 1]).long().minimum(available - length)
    return start, length


def window_positions(length: Tensor, window: int, stream: RandomStream) -> Tensor:
    """Positions (..., window) float32 in a crop of `length` frames that fill a window.

    length < window: linear interpolation of the whole crop (align_corners=False), fractional
    positions. window <= length < 2 window: consecutive frames with length - window single frames
    left out at random positions. length >= 2 window: `window` equal bins, one random frame of each.
    """
    index = torch.arange(window, device=length.device)
    span = length[..., None]
    interpolated = ((index + 0.5) * (span / window) - 0.5).clamp_min(0).minimum(span - 1.0)
    u = stream.uniform(2 * window + 1)
    # A position among window + 1 is skipped when its number is among the (length - window) least.
    order = u[..., : window + 1]
    sorted_u = order.sort(-1).values
    threshold = sorted_u.gather(-1, (span - window - 1).clamp(0, window))
    skips = ((order <= threshold) & (span > window)).cumsum(-1)[..., :window]
    skipped = (index + skips).minimum(span - 1)
    edge = torch.div(
        torch.arange(window + 1, device=length.device) * span, window, rounding_mode="floor"
    )
    width = edge[..., 1:] - edge[..., :-1]
    binned = edge[..., :-1] + (u[..., window + 1 :] * width).long().minimum(width - 1)
    frames = torch.where(span < 2 * window, skipped, binned).float()
    return torch.where(span < window, interpolated, frames)


def evaluation_positions(frames: Tensor, window: int) -> Tensor:
    """Positions (..., window) float32 of the evaluation clip, as in the released protocols.

    Of n > window frames, max(floor(0.95 n), window) from floor(0.05 n / 2) on, the first frame of
    each of `window` equal bins; of fewer, all, by linear interpolation (align_corners=False).
    """
    length = torch.div(frames * 19, 20, rounding_mode="floor").clamp_min(window).minimum(frames)
    start = torch.where(frames > window, torch.div(frames, 40, rounding_mode="floor"), 0)[..., None]
    index = torch.arange(window, device=frames.device)
    span = length[..., None]
    interpolated = ((index + 0.5) * (span / window) - 0.5).clamp_min(0).minimum(span - 1.0)
    binned = torch.div(index * span, window, rounding_mode="floor").float()
    return start + torch.where(span < window, interpolated, binned)
