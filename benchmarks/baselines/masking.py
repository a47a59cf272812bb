"""Which tokens of a skeleton clip are hidden, and the motion that decides it.

Random masking, and the motion-aware masking of MAMP (Mao et al., arXiv 2308.07092), where tokens that move more are
hidden more often: Gumbel-top-k on the softmax of their motion over a temperature. That motion is first divided by the
clip's largest is our choice, so that clips in metres and in millimetres are masked alike.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Masking = Literal["random", "motion"]


def patches(x: Tensor, frames: int) -> Tensor:
    """(B, T, V, C) -> (B, T / frames * V, frames * C), time-major: one row for `frames` frames of one joint."""
    return x.unflatten(1, (-1, frames)).transpose(2, 3).flatten(3).flatten(1, 2)


def motion(clips: Tensor) -> Tensor:
    """Each frame's way to the next, (B, T, V, C) like the clips; the last frame's is zero."""
    return F.pad(clips.diff(dim=1), (0, 0, 0, 0, 0, 1))


@torch.no_grad()
def split_tokens(
    clips: Tensor,
    patch_frames: int,
    kept: int,
    masking: Masking = "motion",
    temperature: float = 0.75,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Numbers of the tokens that stay, int64 (B, kept), and of the others, (B, N - kept), of clips (B, T, V, C).

    The hidden ones are drawn without replacement, with probability in proportion to exp(share / temperature), where
    share is the token's mean absolute motion over the clip's largest; random masking takes every share as zero.
    generator: on the clips' device; None: torch's own.
    Raises: ValueError when kept is not between 1 and N, or masking is not known.
    """
    if masking not in ("random", "motion"):
        raise ValueError(f"masking must be random or motion; got {masking!r}")
    amount = patches(motion(clips), patch_frames).abs().mean(-1).float()  # (B, N)
    if not 1 <= kept <= amount.shape[1]:
        raise ValueError(f"kept must be 1 to {amount.shape[1]} tokens; got {kept}")
    gumbel = -torch.empty_like(amount).exponential_(generator=generator).log()
    share = amount / amount.amax(1, keepdim=True).clamp_min(1e-12)
    scores = gumbel + share / temperature if masking == "motion" else gumbel
    order = scores.argsort(dim=1)  # what stays comes first
    return order[:, :kept], order[:, kept:]


def take(x: Tensor, tokens: Tensor) -> Tensor:
    """Rows (B, K, D) of x (B, N, D) at `tokens`, int64 (B, K)."""
    return x.gather(1, tokens[..., None].expand(-1, -1, x.shape[-1]))
