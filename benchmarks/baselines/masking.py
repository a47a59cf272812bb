"""Which tokens of a skeleton clip are masked, and the motion that decides it.

Random masking, and the motion-aware masking of MAMP (Mao et al., arXiv 2308.07092), where tokens
that move more are masked more often: Gumbel-top-k on the softmax of their motion over a
temperature. Dividing that motion by the clip's largest is our choice, so that clips in metres and
in millimetres are masked the same way.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

Masking = Literal["random", "motion"]


def patches(x: Tensor, frames: int) -> Tensor:
    """One row for `frames` frames of one joint, time-major."""
    return rearrange(x, "b (t p) v c -> b (t v) (p c)", p=frames)


def motion(clips: Tensor) -> Tensor:
    """Differences to the next frame, (B, T, V, C) like the clips; the last frame's is zero."""
    return F.pad(clips.diff(dim=1), (0, 0, 0, 0, 0, 1))


@torch.no_grad()
def split_tokens(
    clips: Tensor,
    patch_frames: int,
    num_visible: int,
    masking: Masking = "motion",
    temperature: float = 0.75,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """int64 indices of visible (B, num_visible) and masked tokens (B, N - num_visible) of clips.

    Masked ones are drawn without replacement, with probability in proportion to exp(m /
    temperature), where m is the token's mean absolute motion over the clip's largest; random
    masking takes every m as zero.
    generator: on the clips' device; None: torch's own.
    Raises: ValueError when num_visible is not between 1 and N, or masking is not known.
    """
    if masking not in ("random", "motion"):
        raise ValueError(f"masking must be random or motion; got {masking!r}")
    amount = patches(motion(clips), patch_frames).abs().mean(-1).float()  # (B, N)
    if not 1 <= num_visible <= amount.shape[1]:
        raise ValueError(f"num_visible must be 1 to {amount.shape[1]} tokens; got {num_visible}")
    gumbel = -torch.empty_like(amount).exponential_(generator=generator).log()
    relative = amount / amount.amax(1, keepdim=True).clamp_min(1e-12)
    scores = gumbel + relative / temperature if masking == "motion" else gumbel
    order = scores.argsort(dim=1)  # visible tokens come first
    return order[:, :num_visible], order[:, num_visible:]


def take(x: Tensor, indices: Tensor) -> Tensor:
    """Rows (B, K, D) of x (B, N, D) at the indices, int64 (B, K)."""
    return x.gather(1, indices[..., None].expand(-1, -1, x.shape[-1]))
