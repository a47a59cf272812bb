"""Clips to packed tokens: patches of one joint, the mask token, the joint embedding, CLS and registers."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from slim_kernels.checks import contents_checked, expect_bool, expect_floating, expect_shapes
from slim_kernels.dispatch import triton_wanted


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
    sequences = []
    for x, mask in zip(clips, masks, strict=True):
        patches = x.unflatten(1, (-1, weight.shape[2])).permute(0, 1, 3, 4, 2).flatten(3)  # (N, T / P, V, C * P)
        tokens = F.linear(patches.to(weight.dtype), weight.flatten(1), bias)
        if mask is not None:
            tokens = torch.where(mask[..., None], mask_token.to(tokens.dtype), tokens)
        tokens = (tokens + joints).flatten(1, 2)
        head = prefix.to(tokens.dtype).expand(x.shape[0], -1, -1)
        sequences.append(torch.cat([head, tokens], 1).flatten(0, 1))
    out = torch.cat(sequences)
    return out if index is None else out.index_select(0, index)


def embed_tokens(
    clips: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    weight: Tensor,
    bias: Tensor,
    mask_token: Tensor,
    joints: Tensor,
    prefix: Tensor,
    *,
    index: Tensor | None = None,
) -> Tensor:
    """Packed tokens of clips of several lengths (paper section 3.1).

    A clip's sequence is the prefix (CLS and registers), then its patches, time-major: weight · coordinates + bias, or
    the mask token where the mask says so (its coordinates are not read), plus the joint's embedding.

    Args:
        clips: groups (N, T, V, C), T a multiple of P, of any strides.
        masks: for each group (N, T / P, V) bool, True: hidden, or None.
        weight, bias: (D, C, P) and (D,).
        mask_token: (D,).
        joints: (V, D) joint embedding.
        prefix: (R, D).
        index: int64 (total,), which tokens of all the groups' sequences, laid end to end, are emitted, and in which
            order; None: all. What it leaves out (empty people, padded frames, hidden tokens) is never computed by the
            Triton kernels.

    Returns: (total, D) in the joint embedding's dtype (PyTorch's promotion decides off the kernels).
    Raises: ValueError naming the argument that does not fit.
    """
    if weight.dim() != 3 or joints.dim() != 2 or prefix.dim() != 2 or len(clips) != len(masks):
        raise ValueError(
            "embed_tokens takes weight (D, C, P), joints (V, D), prefix (R, D) and a mask or None for each group; got "
            f"{tuple(weight.shape)}, {tuple(joints.shape)}, {tuple(prefix.shape)}, {len(clips)} groups and "
            f"{len(masks)} masks"
        )
    expect_floating("embed_tokens", weight=weight, bias=bias, mask_token=mask_token, joints=joints, prefix=prefix)
    expect_bool("embed_tokens", **{f"masks[{number}]": mask for number, mask in enumerate(masks)})
    d, c, p = weight.shape
    v = joints.shape[0]
    groups: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {}
    for number, (x, mask) in enumerate(zip(clips, masks, strict=True)):
        if x.dim() != 4 or x.shape[1] % p:
            raise ValueError(f"embed_tokens: clips must be (N, T, V, C), T a multiple of {p}; got {tuple(x.shape)}")
        groups[f"clips[{number}]"] = (x, (x.shape[0], x.shape[1], v, c))
        groups[f"masks[{number}]"] = (mask, (x.shape[0], x.shape[1] // p, v))
    expect_shapes(
        "embed_tokens",
        weight=(weight, (d, c, p)),
        bias=(bias, (d,)),
        mask_token=(mask_token, (d,)),
        joints=(joints, (v, d)),
        prefix=(prefix, (prefix.shape[0], d)),
        index=(index, () if index is None else tuple(index.shape)),
        **groups,
    )
    if index is not None:
        total = sum(x.shape[0] * (prefix.shape[0] + x.shape[1] // p * v) for x in clips)
        if index.dim() != 1 or index.dtype != torch.int64:
            raise ValueError(f"embed_tokens: index must be int64 (total,); got {index.dtype} {tuple(index.shape)}")
        if contents_checked(index) and index.shape[0] and (int(index.min()) < 0 or int(index.max()) >= total):
            raise ValueError(f"embed_tokens: index must lie within 0 and {total - 1}")
    obstacle = ""
    if d > 256:
        obstacle = f"{d} features, more than 256"
    elif any(x.requires_grad for x in clips):
        obstacle = "gradients of clips"
    # Products are near float32's whatever the parameters' dtype: coordinates have more digits than bfloat16 keeps.
    dtype = torch.float16 if joints.device.type == "cuda" else torch.promote_types(joints.dtype, torch.float32)
    if triton_wanted("embed_tokens", joints, dtype, obstacle):
        from slim_kernels import embed_triton  # only where triton is installed

        masks = [torch.zeros(0, dtype=torch.bool, device=joints.device) if mask is None else mask for mask in masks]
        return embed_triton.embed_tokens(clips, masks, weight, bias, mask_token, joints, prefix, index)
    return reference(clips, masks, weight, bias, mask_token, joints, prefix, index)
