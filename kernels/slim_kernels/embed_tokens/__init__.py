"""Clips to packed tokens: patches of one joint, the mask token, the joint embedding, CLS and
registers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from slim_kernels.embed_tokens.reference import assemble_tokens, reference
from slim_kernels.runtime.arguments import (
    contents_checked,
    expect_bool,
    expect_floating,
    expect_shapes,
)
from slim_kernels.runtime.dispatch import uses_triton
from slim_kernels.runtime.target import runs_on_gpu

__all__ = ["assemble_tokens", "embed_tokens"]


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

    A clip's sequence is the prefix (CLS and registers), then its patches, time-major: weight ·
    coordinates + bias, or the mask token where the mask says so (its coordinates are not read),
    plus the joint's embedding.

    Args:
        clips: groups (N, T, V, C), T a multiple of P, of any strides.
        masks: for each group (N, T / P, V) bool, True: hidden, or None.
        weight, bias: (D, C, P) and (D,).
        mask_token: (D,).
        joints: (V, D) joint embedding.
        prefix: (R, D).
        index: int64 (total,), which tokens of all the groups' sequences, laid end to end, are
            emitted, and in which
            order; None: all. What it leaves out (empty people, padded frames, hidden tokens) is
            never computed by the Triton kernels.

    Returns: (total, D) in the joint embedding's dtype (PyTorch's promotion decides off the
    kernels).
    Raises: ValueError naming the argument that does not fit.
    """
    if weight.dim() != 3 or joints.dim() != 2 or prefix.dim() != 2 or len(clips) != len(masks):
        raise ValueError(
            "embed_tokens takes weight (D, C, P), joints (V, D), prefix (R, D) and a mask or "
            f"None for each group; got {tuple(weight.shape)}, {tuple(joints.shape)}, "
            f"{tuple(prefix.shape)}, {len(clips)} groups and {len(masks)} masks"
        )
    expect_floating(
        "embed_tokens",
        weight=weight,
        bias=bias,
        mask_token=mask_token,
        joints=joints,
        prefix=prefix,
    )
    expect_bool("embed_tokens", **{f"masks[{number}]": mask for number, mask in enumerate(masks)})
    d, c, p = weight.shape
    v = joints.shape[0]
    groups: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {}
    for number, (x, mask) in enumerate(zip(clips, masks, strict=True)):
        if x.dim() != 4 or x.shape[1] % p:
            raise ValueError(
                f"embed_tokens: clips must be (N, T, V, C), T a multiple of {p}; got "
                f"{tuple(x.shape)}"
            )
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
            raise ValueError(
                f"embed_tokens: index must be int64 (total,); got {index.dtype} "
                f"{tuple(index.shape)}"
            )
        if (
            contents_checked(index)
            and index.shape[0]
            and (int(index.min()) < 0 or int(index.max()) >= total)
        ):
            raise ValueError(f"embed_tokens: index must lie within 0 and {total - 1}")
    obstacle = ""
    if d > 256:
        obstacle = f"{d} features, more than 256"
    elif any(x.requires_grad for x in clips):
        obstacle = "gradients of clips"
    # Products are near float32's whatever the parameters' dtype: coordinates have more digits than
    # bfloat16 keeps.
    dtype = (
        torch.float16 if runs_on_gpu(joints) else torch.promote_types(joints.dtype, torch.float32)
    )
    if uses_triton("embed_tokens", joints, dtype, obstacle):
        from slim_kernels.embed_tokens import triton  # only where triton is installed

        masks = [
            torch.zeros(0, dtype=torch.bool, device=joints.device) if mask is None else mask
            for mask in masks
        ]
        return triton.embed_tokens(clips, masks, weight, bias, mask_token, joints, prefix, index)
    return reference(clips, masks, weight, bias, mask_token, joints, prefix, index)
