"""embed_tokens in PyTorch's operations: the specification, and the tests' oracle."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def reference(
    clips: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    weight: Tensor,
    bias: Tensor,
    mask_token: Tensor,
    joints: Tensor,
    prefix: Tensor,
    index: Tensor | None,
) -> Tensor:
    """embed_tokens in PyTorch's operations."""
    rows = (x.unflatten(1, (-1, weight.shape[2])).permute(0, 1, 3, 4, 2).flatten(3) for x in clips)
    # of rows (N, T / P, V, C * P)
    patches = [F.linear(x.to(weight.dtype), weight.flatten(1), bias) for x in rows]
    return assemble_tokens(patches, masks, mask_token, joints, prefix, index)


def assemble_tokens(
    patches: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    mask_token: Tensor,
    joints: Tensor,
    prefix: Tensor,
    index: Tensor | None = None,
) -> Tensor:
    """embed_tokens of groups of patches (N, T / P, V, D) that are embedded already, in PyTorch's
    operations.

    The mask token gets a gradient, of zeros where no group has a mask: DistributedDataParallel
    refuses parameters that get none.
    """
    if all(mask is None for mask in masks) and mask_token.requires_grad and torch.is_grad_enabled():
        prefix = torch.cat([prefix, mask_token[None]])[:-1]
    sequences = []
    for tokens, mask in zip(patches, masks, strict=True):
        if mask is not None:
            tokens = torch.where(mask[..., None], mask_token.to(tokens.dtype), tokens)
        tokens = (tokens + joints).flatten(1, 2)
        head = prefix.to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        sequences.append(torch.cat([head, tokens], 1).flatten(0, 1))
    out = torch.cat(sequences)
    return out if index is None else out.index_select(0, index)
