"""The encoder in PyTorch's plain operations on padded sequences: what exported programs consist of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from slim_kernels.rotary import frequencies
from torch import Tensor, nn

from slim_fast.errors import UserError
from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.interop.people import present_people
from slim_fast.model.encoder import Block


class Dense(nn.Module):
    """Answers as the SLiMEncoder or SLiMClassifier that it wraps, whose weights, float32 or float64, it shares; no
    custom operations, nothing read on the host, B, T and M free. Everybody is computed; with skip_empty the answers of
    who is all zeros are zeros.

    Takes clips (B, C, T, V, M) in the weights' dtype, T a multiple of patch_frames; any other length is an error of
    an operation. Returns one tensor for each name in `axes`: of an encoder's last block, through the final LayerNorm,
    CLS and the patches, time-major, and bool who is there; of a classifier its logits (without a head: the pooled
    features).
    Raises: UserError for an optimized encoder, which has no plain weights any more.
    """

    frequency: Tensor

    def __init__(self, encoder: SLiMEncoder) -> None:
        super().__init__()
        if not all(isinstance(block, Block) for block in encoder.blocks):
            raise UserError(
                "An optimized encoder can't be exported: its weights are laid out for this processor. Export the "
                "encoder that optimize() was called on."
            )
        self.encoder = encoder
        half = encoder.config.width // encoder.config.heads // 2
        frequency = frequencies(half, encoder.pos_embed.device).to(encoder.pos_embed.dtype)
        self.register_buffer("frequency", frequency, persistent=False)

    @property
    def axes(self) -> dict[str, tuple[str | int, ...]]:
        """Output -> its axes, in the order in which forward returns them; t = T / patch_frames."""
        encoder, config = self.encoder, self.encoder.config
        if isinstance(encoder, SLiMClassifier):
            if encoder.num_classes:
                return {"logits": ("B", encoder.num_classes)}
            return {"features": ("B", encoder.num_features)}
        return {
            "cls": ("B", "M", config.width),
            "patches": ("B", "M", f"{encoder.joints}*t", config.width),
            "present": ("B", "M"),
        }

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        encoder, prefix = self.encoder, 1 + self.encoder.config.registers
        batch, people = x.shape[0], x.shape[4]
        if encoder.skip_empty:
            present = present_people(x, encoder.channel_names)
        else:
            present = torch.ones(batch, people, dtype=torch.bool, device=x.device)
        patches = x.unflatten(2, (-1, encoder.config.patch_frames))  # (B, C, t, P, V, M)
        cos, sin = self._turns(patches.shape[2])
        h = self._embed(patches)
        for block in encoder.blocks:
            h = _block(block, h, cos, sin)
        tokens = torch.where(present.flatten()[:, None, None], encoder.norm(h), 0)  # (B * M, L, D)
        if isinstance(encoder, SLiMClassifier):
            features = {"x_norm_clstoken": tokens[:, 0], "x_norm_patchtokens": tokens[:, prefix:], "people": present}
            return (encoder.forward_head(features),)
        tokens = tokens.unflatten(0, (batch, people))
        return tokens[:, :, 0], tokens[:, :, prefix:], present

    def _embed(self, patches: Tensor) -> Tensor:
        """(B, C, t, P, V, M) -> (B * M, L, D): CLS, registers, patches."""
        encoder, proj = self.encoder, self.encoder.patch_embed.proj
        rows = patches.permute(0, 5, 2, 4, 1, 3).flatten(4).flatten(0, 1)  # (B * M, t, V, C * P)
        tokens = (F.linear(rows, proj.weight.flatten(1), proj.bias) + encoder.pos_embed[0, 1:]).flatten(1, 2)
        head = torch.cat([encoder.cls_token + encoder.pos_embed[:, :1], encoder.register_tokens], 1)
        return torch.cat([head.expand(tokens.shape[0], -1, -1), tokens], 1)

    def _turns(self, times: int) -> tuple[Tensor, Tensor]:
        """cos and sin (L, d / 2) of each token's angles; CLS and registers are not turned."""
        half = len(self.frequency)
        angle = torch.arange(times, device=self.frequency.device)[:, None] * self.frequency
        angle = angle[:, None].expand(times, self.encoder.joints, half).flatten(0, 1)
        angle = torch.cat([angle.new_zeros(1 + self.encoder.config.registers, half), angle])
        return angle.cos(), angle.sin()


def _block(block: nn.Module, h: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """One pre-norm block on (N, L, D)."""
    assert isinstance(block, Block)
    # (3, N, heads, L, d)
    q, k, v = block.attn.qkv(block.norm1(h)).unflatten(2, (3, block.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    attended = F.scaled_dot_product_attention(_turned(q, cos, sin), _turned(k, cos, sin), v)
    h = h + block.attn.proj(attended.transpose(1, 2).flatten(2))
    gate, up = block.mlp.w12(block.norm2(h)).chunk(2, -1)
    return h + block.mlp.w3(F.silu(gate) * up)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
