"""Random numbers as scrambled counters: SplitMix64 (Steele, Lea, Flood 2014)."""

import torch
from torch import Tensor


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


# Increment and finaliser, as signed 64-bit integers.
GOLDEN = _signed(0x9E3779B97F4A7C15)
MIX_1 = _signed(0xBF58476D1CE4E5B9)
MIX_2 = _signed(0x94D049BB133111EB)


def mix(x: Tensor) -> Tensor:
    """Bijective scrambling of int64; torch's >> is arithmetic, hence the masks."""
    x = (x >> 30).bitwise_and_((1 << 34) - 1).bitwise_xor_(x).mul_(MIX_1)
    x = (x >> 27).bitwise_and_((1 << 37) - 1).bitwise_xor_(x).mul_(MIX_2)
    return (x >> 31).bitwise_and_((1 << 33) - 1).bitwise_xor_(x)


def fold(keys: Tensor, purpose: int | Tensor) -> Tensor:
    """Keys of streams for a purpose, independent of every other purpose's."""
    return mix((keys ^ purpose) + GOLDEN)


def draw_bits(keys: Tensor, draws: int) -> Tensor:
    """(*keys, draws) int64, every bit random."""
    counter = torch.arange(1, draws + 1, device=keys.device) * GOLDEN
    return mix(keys[..., None] + counter)


def to_uniform(bits: Tensor) -> Tensor:
    """Random int64 to float32 in [0, 1), in steps of 2^-24, by its upper bits."""
    return (bits >> 40).bitwise_and_(0xFFFFFF).float().mul_(2.0**-24)
