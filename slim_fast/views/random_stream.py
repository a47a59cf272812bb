"""Counter-based random numbers: pure functions of (seed, step, clip, view, purpose, counter).

Nothing is carried from one draw to the next, so any batch, clip or view can be drawn again alone,
on any device, with any number of workers, and a run can resume at any step.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


# Finaliser and increment of SplitMix64 (Steele, Lea, Flood 2014), as signed 64-bit integers.
_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _mix(x: Tensor) -> Tensor:
    """Bijective scrambling of int64; torch's >> is arithmetic, hence the masks."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _MIX_1
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _MIX_2
    return x ^ ((x >> 31) & ((1 << 33) - 1))


class RandomStream:
    """A tensor of independent random streams, one for each element of `keys` (int64, any shape)."""

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys

    @classmethod
    def of(cls, *parts: int | Tensor, device: torch.device | str = "cpu") -> "RandomStream":
        """One stream for each element of the broadcast of `parts`, integers or int64 tensors."""
        keys = torch.zeros((), dtype=torch.int64, device=device)
        for part in parts:
            keys = _mix((keys ^ part) + _GOLDEN)
        return cls(keys)

    def fold_in(self, purpose: int | Tensor) -> "RandomStream":
        """Streams for another purpose, independent of these and of every other purpose's."""
        return RandomStream(_mix((self.keys ^ purpose) + _GOLDEN))

    def __getitem__(self, index: object) -> "RandomStream":
        return RandomStream(self.keys[index])  # type: ignore[index]

    def bits(self, draws: int) -> Tensor:
        """(*keys, draws) int64, every bit random."""
        counter = torch.arange(1, draws + 1, device=self.keys.device) * _GOLDEN
        return _mix(self.keys[..., None] + counter)

    def uniform(self, *shape: int) -> Tensor:
        """(*keys, *shape) float32 in [0, 1), in steps of 2^-24."""
        if not shape:
            return self.uniform(1)[..., 0]
        bits = self.bits(math.prod(shape))
        return (((bits >> 40) & 0xFFFFFF).float() * 2.0**-24).unflatten(-1, shape)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """(*keys, *shape) float32, standard normal (Box-Muller: both halves of one 64-bit draw)."""
        count = math.prod(shape)
        bits = self.bits((count + 1) // 2)
        # never log 0
        radius = (((bits >> 40) & 0xFFFFFF).float() + 1).mul_(2.0**-24).log_().mul_(-2).sqrt_()
        angle = ((bits >> 8) & 0xFFFFFF).float().mul_(2 * math.pi * 2.0**-24)
        both = torch.cat([radius * angle.cos(), radius * angle.sin()], -1)
        return both[..., :count].unflatten(-1, tuple(shape))
