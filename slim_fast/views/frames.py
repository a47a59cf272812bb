"""Which frames a view takes: ping-pong extension, the p-interval crop, and a window of frames from the crop (paper
section 3.2).
"""

import torch
from torch import Tensor

from slim_fast.views.stream import Stream

MIN_FRAMES = 150


def extended_length(frames: Tensor) -> Tensor:
    """Length of a clip after whole time-reversed copies were appended until it has at least MIN_FRAMES frames."""
    return frames * torch.div(MIN_FRAMES + frames - 1, frames, rounding_mode="floor").clamp_min(1)


def fold(position: Tensor, frames: Tensor) -> Tensor:
    """Frame (0 .. frames - 1) that stands at `position` of the ping-pong extended clip."""
    phase = position % (2 * frames)
    return torch.minimum(phase, 2 * frames - 1 - phase)


def crop(available: Tensor, window: int, interval: tuple[float, float], stream: Stream) -> tuple[Tensor, Tensor]:
    """Uniform start and length of a crop: floor(available · p), p uniform in `interval`, at least min(16, max(8,
    window)).

    available: int64 (...,) frames to choose from; stream: keys of the same shape. Returns (start, length), int64.
    """
    low, high = interval
    u = stream.uniform(2)
    length = (available * (low + (high - low) * u[..., 0])).long()
    length = torch.minimum(length.clamp_min(min(max(window, 8), 16)), available)
    start = ((available - length + 1) * u[..., 1]).long().minimum(available - length)  # float32 may round up to the end
    return start, length


def window_positions(length: Tensor, window: int, stream: Stream) -> Tensor:
    """Positions in a crop of `length` frames that fill a window: (..., window) float32, within [0, length - 1].

    length < window: linear interpolation of the whole crop (align_corners=False), fractional positions.
    window <= length < 2 window: consecutive frames with length - window single frames left out at random places.
    length >= 2 window: `window` equal bins, one random frame of each.
    """
    place = torch.arange(window, device=length.device)
    span = length[..., None]
    interpolated = ((place + 0.5) * (span / window) - 0.5).clamp_min(0).minimum(span - 1.0)
    u = stream.uniform(2 * window + 1)
    # A place among window + 1 is skipped when its number is among the (length - window) smallest.
    order = u[..., : window + 1]
    sorted_u = order.sort(-1).values
    threshold = sorted_u.gather(-1, (span - window - 1).clamp(0, window))
    skips = ((order <= threshold) & (span > window)).cumsum(-1)[..., :window]
    skipped = (place + skips).minimum(span - 1)
    edge = torch.div(torch.arange(window + 1, device=length.device) * span, window, rounding_mode="floor")
    width = edge[..., 1:] - edge[..., :-1]
    binned = edge[..., :-1] + (u[..., window + 1 :] * width).long().minimum(width - 1)
    frames = torch.where(span < 2 * window, skipped, binned).float()
    return torch.where(span < window, interpolated, frames)


def evaluation_positions(frames: Tensor, window: int, keep: float = 0.95) -> Tensor:
    """The evaluation clip's frames (recipe of the paper's downstream protocols): (..., window) float32.

    The centred `keep` of the clip; the middle frame of each of `window` equal bins, or linear interpolation when
    shorter.
    """
    length = (frames * keep).long().clamp_min(1)
    start = torch.div(frames - length, 2, rounding_mode="floor")[..., None]
    place = torch.arange(window, device=frames.device)
    span = length[..., None]
    interpolated = ((place + 0.5) * (span / window) - 0.5).clamp_min(0).minimum(span - 1.0)
    binned = torch.div((2 * place + 1) * span, 2 * window, rounding_mode="floor").float()
    return start + torch.where(span < window, interpolated, binned)
