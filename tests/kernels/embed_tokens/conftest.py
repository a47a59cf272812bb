"""Clips, parameters, and one token at a time, which the tests of embed_tokens share."""

import torch
from torch import Tensor

P, C = 2, 3


def parameters(
    width: int, joints: int, prefix: int, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """weight, bias, mask token, joint embedding and prefix."""
    shapes = [(width, C, P), (width,), (width,), (joints, width), (prefix, width)]
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


def groups(
    sizes: list[tuple[int, int]], joints: int, masked: bool
) -> tuple[list[Tensor], list[Tensor | None]]:
    clips = [torch.randn(n, t * P, joints, C, dtype=torch.float64) for n, t in sizes]
    masks = [
        torch.rand(n, t, joints) < 0.4 if masked and i % 2 == 0 else None
        for i, (n, t) in enumerate(sizes)
    ]
    return clips, masks


def one_by_one(clips, masks, weight, bias, mask_token, joints, prefix, index=None) -> Tensor:
    tokens = []
    for x, mask in zip(clips, masks, strict=True):
        for n in range(len(x)):
            tokens += prefix.unbind(0)
            for t in range(x.shape[1] // P):
                for v in range(x.shape[2]):
                    patch = x[n, t * P : (t + 1) * P, v]  # (P, C)
                    hidden = mask is not None and bool(mask[n, t, v])
                    seen = (
                        torch.einsum(
                            "dcp,pc->d", weight, torch.zeros_like(patch) if hidden else patch
                        )
                        + bias
                    )
                    tokens.append((mask_token if hidden else seen) + joints[v])
    out = torch.stack(tokens) if tokens else prefix[:0] + bias
    return out if index is None else out[index]
