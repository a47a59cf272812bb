"""Random numbers as scrambled counters: SplitMix64 (Steele, Lea, Flood 2014)."""

from torch import Tensor


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


# Increment and finaliser, as signed 64-bit integers.
GOLDEN = _signed(0x9E3779B97F4A7C15)
MIX_1 = _signed(0xBF58476D1CE4E5B9)
MIX_2 = _signed(0x94D049BB133111EB)


def mix(x: Tensor) -> Tensor:
    """Bijective scrambling of int64; torch's >> is arithmetic, hence the masks."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * MIX_1
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * MIX_2
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def to_uniform(bits: Tensor) -> Tensor:
    """Random int64 to float32 in [0, 1), in steps of 2^-24, by its upper bits."""
    return ((bits >> 40) & 0xFFFFFF).float() * 2.0**-24
