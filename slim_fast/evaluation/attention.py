"""Where an encoder's CLS token looks: its attention to every joint at every time."""

import torch
from einops import rearrange
from slim_kernels.attention.reference import rotate_queries_keys
from torch import Tensor

from slim_fast.errors import UserError
from slim_fast.model.block import Attention, Block
from slim_fast.model.encoder import Encoder


@torch.no_grad()
def attend_from_cls(encoder: Encoder, clips: Tensor) -> Tensor:
    """Attention of the CLS token to the patch tokens in the last block, mean over heads.

    clips: (N, T, V, C), one person each, T a multiple of patch_frames, on the encoder's device.
    Returns: (N, T / patch_frames, V) float32; what is missing to 1 goes to CLS and registers.
    Raises: UserError when the last block is another than the encoder was made with.
    Source: the last block's softmax (paper section 3.1).
    """
    *blocks, last = encoder.blocks
    if not isinstance(last, Block) or not isinstance(last.attn, Attention):
        raise UserError(
            "Attention can be read from the encoder's own blocks: undo what replaced them."
        )
    packed = encoder.pack([clips])
    x = encoder.embed([clips], [None], packed)
    for block in blocks:
        x = block(x, packed)
    qkv = last.attn.qkv(last.norm1(x)).unflatten(1, (3, last.attn.heads, -1))  # (total, 3, H, d)
    rotated = rotate_queries_keys(qkv, packed.time, packed.max_seqlen).float()
    keys = rearrange(rotated[:, 1], "(n s) h d -> n h s d", n=len(clips))
    cls = rotated[packed.cls_rows, 0]  # (N, H, d)
    scores = torch.einsum("nhd,nhsd->nhs", cls, keys) / keys.shape[-1] ** 0.5
    patches = scores.softmax(-1).mean(1)[:, packed.prefix :]
    return rearrange(patches, "n (t v) -> n t v", v=encoder.joints)
