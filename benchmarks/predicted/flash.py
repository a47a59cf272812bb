"""Attention by the best library, as a model: FlashAttention-2 (Dao, arXiv 2307.08691), which has
kernels for heads of 32 (FlashAttention-3 pads them to 64, which doubles the products).

No binary is counted. A program takes 128 queries by blocks of 128 keys, so lengths are padded to
128; mma.sync makes the products, 2 forward and 5 backward; a score costs one exponential and 4.5
instructions forward (scale and maximum subtracted, maximum, sum, half a conversion), 5 backward.
The slowest pipe decides, all overlap perfectly, every SM is full. Tensors go to memory and back
once; the backward pass also sums delta (output and gradient read) and adds dq up in float32
(written as zeros, added to once, read and written in 16 bits). Rotation is a pass of its own over
queries and keys each way, as libraries have it.
"""

from __future__ import annotations

from slim_kernels.cost.devices import (
    COPY_SHARE,
    LAUNCH_MICROSECONDS,
    PRODUCT_SHARE,
    SCHEDULERS,
    Device,
)

from benchmarks.predicted.kernels import Limits

TILE = 128
ROTATION = 8  # bytes of a number of the output: queries and keys read and written
_PRODUCTS = {"forward": 2, "backward": 5}
_INSTRUCTIONS = {"forward": 4.5, "backward": 5.0}
_BYTES = {"forward": 8, "backward": 2 * 8 + 4 + 18}  # of a number of the output, 16 bits each
_LAUNCHES = {"forward": 1, "backward": 3}


def predict_flash(
    which: str, sequences: int, heads: int, tokens: int, width: int, device: Device
) -> Limits:
    """`sequences` of `tokens` each, heads of `width` features; microseconds, without rotation."""
    padded = -(-tokens // TILE) * TILE
    scores = float(sequences * heads * padded**2)
    rate = device.tensor["bf16"] * device.mma_share * PRODUCT_SHARE
    clocks = {
        "tensor": _PRODUCTS[which] * 2 * width * scores / rate,
        "sfu": scores / device.sfu,
        "issue": _INSTRUCTIONS[which] * scores / 32 / SCHEDULERS,
    }
    limits = {name: count / device.sms / device.ghz / 1e3 for name, count in clocks.items()}
    numbers = sequences * heads * tokens * width
    limits["DRAM"] = _BYTES[which] * numbers / (COPY_SHARE * device.dram * 1e6)
    bound = max(limits, key=lambda name: limits[name])
    return {bound: limits[bound], "launch": _LAUNCHES[which] * LAUNCH_MICROSECONDS}


def predict_rotation(numbers: int, device: Device) -> Limits:
    """One way, of so many numbers of the output."""
    moving = ROTATION * numbers / (COPY_SHARE * device.dram * 1e6)
    return {"DRAM": moving, "launch": LAUNCH_MICROSECONDS}
