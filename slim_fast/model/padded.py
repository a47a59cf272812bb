"""The encoder in plain PyTorch on clips of one length, for traced and exported programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from slim_kernels.attention.rotary import BASE
from torch import Tensor
from torch.jit._trace import is_tracing

from slim_fast.model.block import Block, is_plain_patch_embed

if TYPE_CHECKING:
    from slim_fast.model.encoder import Encoder


@dataclass(frozen=True)
class PaddedLayout:
    """Tokens (N, L, D) of sequences of one length."""

    cos: Tensor
    sin: Tensor
    """(1, 1, L, d) of each token's angles, twice; CLS and registers are not rotated."""
    visible: Tensor | None = None
    """(N, 1, 1, L) bool, which tokens may be attended to; None: all."""
    is_cls_alone: bool = False
    """Whether only the first token attends."""

    def attend(self, qkv: Tensor, heads: int) -> Tensor:
        """Queries, keys and values (N, L, 3 D) -> (N, L, D), or (N, 1, D) of CLS alone."""
        each = qkv.unflatten(2, (3, heads, -1)).unbind(2)
        q, k, v = (x.permute(0, 2, 1, 3) for x in each)  # (N, heads, L, d)
        k = self._rotate(k)
        q = q[:, :, :1] if self.is_cls_alone else self._rotate(q)  # CLS is not rotated
        if is_tracing():  # FLOP counters know matrix multiplications only
            scores = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
            if self.visible is not None:
                scores = scores.masked_fill(~self.visible, -torch.inf)
            attended = scores.softmax(-1) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=self.visible)
        return attended.transpose(1, 2).flatten(2)

    def _rotate(self, x: Tensor) -> Tensor:
        # OpenVINO fuses rotary embedding of this form: to the letter, with the axis numbered from
        # the front, angles of four axes and a product for the sign
        a, b = x.chunk(2, 3)
        return x * self.cos + torch.cat([b * -1.0, a], -1) * self.sin


def encode_padded(
    encoder: Encoder, clips: Tensor, mask: Tensor | None, blocks: Sequence[int]
) -> list[Tensor]:
    """Outputs (N, L, D) of the numbered blocks for clips (N, T, V, C), before the final norm.

    mask: (N, T / patch, V) bool, True: the mask token stands in; None: nowhere.
    """
    h, tokens = _embedded(encoder, clips, mask)
    outputs = []
    for number, block in enumerate(encoder.blocks[: max(blocks, default=-1) + 1]):
        h = block(h, tokens)
        if number in blocks:
            outputs.append(h)
    return outputs


def encode_padded_cls(encoder: Encoder, clips: Tensor) -> Tensor:
    """CLS (N, D) of the last block for clips (N, T, V, C), before the final norm.

    A last block of our own computes nothing else.
    """
    h, tokens = _embedded(encoder, clips, None)
    for block in encoder.blocks[:-1]:
        h = block(h, tokens)
    last: Any = encoder.blocks[-1]
    if type(last).forward is not Block.forward:
        return last(h, tokens)[:, 0]
    cls = h[:, :1] + last.attn(last.norm1(h), replace(tokens, is_cls_alone=True))
    return (cls + last.mlp(last.norm2(cls)))[:, 0]


def _embedded(encoder: Encoder, clips: Tensor, mask: Tensor | None) -> tuple[Tensor, PaddedLayout]:
    """Tokens (N, L, D): CLS, registers, patches, time-major."""
    config, positions = encoder.config, encoder.pos_embed
    clips = encoder.read_stream(clips)
    if is_plain_patch_embed(encoder.patch_embed):
        proj = encoder.patch_embed.proj
        # (N, t, V, C * P)
        rows = clips.unflatten(1, (-1, config.patch_frames)).permute(0, 1, 3, 4, 2).flatten(3)
        patches = F.linear(rows.to(proj.weight.dtype), proj.weight.flatten(1), proj.bias)
    else:
        patches = encoder.patch_embed(clips.to(positions.dtype))
    prefix, times = 1 + config.registers, patches.shape[1]
    if mask is not None:
        patches = torch.where(mask[..., None], encoder.mask_token.to(patches.dtype), patches)
    head = torch.cat([encoder.cls_token + positions[:, :1], encoder.register_tokens], 1)
    patches = (patches + positions[0, 1:]).flatten(1, 2)
    h = torch.cat([head.expand(patches.shape[0], -1, -1), patches], 1)
    visible = None
    if mask is not None and config.attention == "visible":
        visible = torch.cat(
            [mask.new_ones(1, prefix).expand(mask.shape[0], -1), ~mask.flatten(1)], 1
        )[:, None, None]

    half = config.width // config.heads // 2
    # Of numbers, so that a program holds them and does not compute them.
    frequency = positions.new_tensor([BASE ** (-i / half) for i in range(half)])
    angle = torch.arange(times, device=positions.device)[:, None] * frequency
    angle = angle[:, None].expand(times, encoder.joints, half).flatten(0, 1)
    angle = torch.cat([angle.new_zeros(prefix, half), angle])
    angle = torch.cat([angle, angle], -1)[None, None]
    return h, PaddedLayout(angle.cos(), angle.sin(), visible)
