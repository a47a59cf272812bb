"""Counter-based random numbers: pure functions of (seed, step, clip, view, purpose, counter).

Nothing is carried from one draw to the next, so any batch, clip or view can be drawn again alone,
on any device, with any number of workers, and a run can resume at any step.
"""

import math
from collections.abc import Sequence

import torch
from slim_kernels.runtime.counter_random import draw_bits, fold, to_uniform
from torch import Tensor


class RandomStream:
    """A tensor of independent random streams, one for each element of `keys` (int64, any shape)."""

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys

    @classmethod
    def of(cls, *parts: int | Tensor, device: torch.device | str = "cpu") -> "RandomStream":
        """One stream for each element of the broadcast of `parts`, integers or int64 tensors.

        device: of integers alone; else it is that of the tensors.
        """
        device = next((part.device for part in parts if isinstance(part, Tensor)), device)
        keys = torch.zeros((), dtype=torch.int64, device=device)
        for part in parts:
            keys = fold(keys, part)
        return cls(keys)

    def fold_in(self, purpose: int | Tensor) -> "RandomStream":
        """Streams for another purpose, independent of these and of every other purpose's."""
        return RandomStream(fold(self.keys, purpose))

    def __getitem__(self, index: object) -> "RandomStream":
        return RandomStream(self.keys[index])  # type: ignore[index]

    def bits(self, draws: int) -> Tensor:
        """(*keys, draws) int64, every bit random."""
        return draw_bits(self.keys, draws)

    def uniform(self, *shape: int) -> Tensor:
        """(*keys, *shape) float32 in [0, 1), in steps of 2^-24."""
        return to_uniform(self.bits(math.prod(shape))).reshape(*self.keys.shape, *shape)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """(*keys, *shape) float32, standard normal (Box-Muller: both halves of one 64-bit draw)."""
        count = math.prod(shape)
        bits = self.bits((count + 1) // 2)
        radius = (bits >> 40).bitwise_and_(0xFFFFFF).float().add_(1)  # never log 0
        radius = radius.mul_(2.0**-24).log_().mul_(-2).sqrt_()
        angle = (bits >> 8).bitwise_and_(0xFFFFFF).float().mul_(2 * math.pi * 2.0**-24)
        both = torch.cat([angle.cos().mul_(radius), angle.sin().mul_(radius)], -1)
        return both[..., :count].reshape(*self.keys.shape, *shape)
