"""Answers of a runtime beside those of the encoder in float32."""

import math
from collections.abc import Sequence
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


def make_clips(
    encoder: "PeopleEncoder", like: Tensor | None, batch: int, times: int = 0, people: int = 2
) -> Tensor:
    """Clips (B, C, T, V, M) of float32: those of `like`, repeated as needed; None: random ones.

    times: T / patch_frames of random clips, 0: of the encoder's window.
    """
    if like is not None:
        # as long as they are: ranges of int8 that fit these do not fit much shorter ones
        for axis, size in ((0, batch), (4, people)):
            like = like.index_select(axis, torch.arange(size) % like.shape[axis])
        return like
    config = encoder.config
    frames = times * config.patch_frames or config.window
    shape = (batch, encoder.channels, frames, encoder.joints, people)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return x.to(encoder.pos_embed.device)


def list_examples(encoder: "PeopleEncoder", x: Tensor, like: Tensor | None) -> list[Tensor]:
    """What answers are compared of: the first clips of x, and some of other shapes, with absent
    people; like: see `make_clips`.
    """
    clips = [make_clips(encoder, like, *shape) for shape in _SHAPES]
    for few in clips:
        few[-1, ..., 1:] = 0
    return [x[:_MOST], *clips]


@torch.no_grad()
def answer(encoder: "PeopleEncoder", x: Tensor, kind: Kind) -> list[Tensor]:
    """The outputs of a kind for clips (B, C, T, V, M), people folded into the batch."""
    return [layer for (layer,) in encoder._encode([encoder._fold(x, None, None)], kind)]


def find_problem(
    fast: "PeopleEncoder", plain: "PeopleEncoder", examples: Sequence[Tensor], precision: str
) -> str:
    """What is wrong with the answers of `fast` in a precision: words that follow its name, or "".

    plain: the encoder in float32. examples: see `list_examples`.
    """
    limit = LIMITS[precision]
    for kind in KINDS:
        off = total = 0.0
        for some in examples:
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
