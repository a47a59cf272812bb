"""Answers of a runtime beside those of the encoder in float32."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from slim_fast.interop.runtimes.programs import KINDS, LIMITS, Kind

if TYPE_CHECKING:
    from slim_fast.interop.people_encoder import PeopleEncoder

# (B, T / patch_frames, M): programs often fail at sizes of 1.
_SHAPES = ((1, 1, 1), (2, 2, 3), (5, 1, 4))
_MOST = 2
"""Clips of the example that are compared."""


def random_clips(encoder: "PeopleEncoder", batch: int, times: int = 0, people: int = 2) -> Tensor:
    """Clips (B, C, T, V, M) of float32; times: T / patch_frames, 0: of the encoder's window."""
    config = encoder.config
    frames = times * config.patch_frames or config.window
    shape = (batch, encoder.channels, frames, encoder.joints, people)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return x.to(encoder.pos_embed.device)


@torch.no_grad()
def answer(encoder: "PeopleEncoder", x: Tensor, kind: Kind) -> list[Tensor]:
    """The outputs of a kind for clips (B, C, T, V, M), people folded into the batch."""
    return [layer for (layer,) in encoder._encode([encoder._fold(x, None, None)], kind)]


def find_problem(fast: "PeopleEncoder", plain: "PeopleEncoder", x: Tensor, precision: str) -> str:
    """What is wrong with the answers of `fast` in a precision: words that follow its name, or "".

    plain: the encoder in float32. x: clips as they will come; compared are the first of them, and
    random ones of other shapes, with absent people.
    """
    limit = LIMITS[precision]
    clips = [random_clips(plain, *shape) for shape in _SHAPES]
    for few in clips:
        few[-1, ..., 1:] = 0
    for kind in KINDS:
        off = total = 0.0
        for some in (x[:_MOST], *clips):
            pairs = zip(answer(fast, some, kind), answer(plain, some, kind), strict=True)
            for got, want in pairs:
                if got.shape != want.shape:
                    return f"gives {tuple(got.shape)} instead of {tuple(want.shape)}"
                off += float((got - want).square().sum())
                total += float(want.square().sum())
        error = math.sqrt(off / max(total, 1e-30))
        if not error <= limit:  # NaN is wrong too
            return f"is off by {error:.1e} of float32's answer (allowed: {limit:g})"
    return ""
