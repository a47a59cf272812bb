"""The SLiM encoder in plain eager PyTorch: dense batches of one length, no code of the project.

Section 2 of the recipe (Do et al., "Less is More", arXiv 2603.10648). Parameters carry the names of
the public checkpoints, so those load with ``load_state_dict``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """(B, T, V, C) -> (B, T/8 * V, D), time-major."""

    def __init__(self, channels: int, width: int, patch_frames: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, (patch_frames, 1), stride=(patch_frames, 1))

    def forward(self, clips: Tensor) -> Tensor:
        tokens: Tensor = self.proj(clips.permute(0, 3, 1, 2))  # (B, D, T/8, V)
        return tokens.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention; only the last ``len(cos)`` tokens, the patches, are rotated."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        # (B, H, N, d) each; no einops in here: its microseconds would slow the baseline
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v)
        out: Tensor = self.proj(x.transpose(1, 2).reshape(batch, tokens, width))
        return out


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding in fp32, i paired with i + d/2; x (B, H, N, d), cos, sin (patches, d/2)."""
    plain = x[:, :, : x.shape[2] - len(cos)]
    first, second = x[:, :, plain.shape[2] :].float().chunk(2, dim=-1)
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return torch.cat([plain, rotated.to(x.dtype)], dim=2)


class SwiGLU(nn.Module):
    """Width -> two halves of the hidden width, SiLU of the first times the second -> width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = (int(width * 4 * 2 / 3) + 7) // 8 * 8
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        out: Tensor = self.w3(F.silu(gate) * value)
        return out


class Block(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = SwiGLU(width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), cos, sin)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Encoder(nn.Module):
    """Clips (B, T, V, C) to tokens (B, 1 + registers + T/8 * V, width): CLS, registers, patches."""

    def __init__(
        self,
        joints: int = 25,
        channels: int = 3,
        width: int = 256,
        depth: int = 8,
        heads: int = 8,
        registers: int = 4,
        patch_frames: int = 8,
    ) -> None:
        super().__init__()
        self.head_width = width // heads
        self.prefix = 1 + registers
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + joints, width))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.patch_embed = PatchEmbed(channels, width, patch_frames)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.apply(init_linear)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.normal_(self.register_tokens, std=1e-6)

    def blocks_output(self, clips: Tensor, masks: Tensor | None = None) -> list[Tensor]:
        """The tokens after every block, before the norm; masks (B, T/8, V) bool: mask tokens."""
        x = self.patch_embed(clips)
        if masks is not None:
            x = torch.where(masks.flatten(1).unsqueeze(-1), self.mask_token.to(x.dtype), x)
        joints = self.pos_embed.shape[1] - 1
        times = x.shape[1] // joints
        x = x + self.pos_embed[:, 1:].repeat(1, times, 1)
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([cls, self.register_tokens.expand(len(x), -1, -1), x], dim=1)
        cos, sin = self.rotary(times, joints, x.device)
        outputs = []
        for block in self.blocks:
            x = block(x, cos, sin)
            outputs.append(x)
        return outputs

    def rotary(self, times: int, joints: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosines and sines of every patch token, (times * joints, head width / 2) fp32."""
        half = self.head_width // 2
        frequency = 10000.0 ** (-torch.arange(half, device=device, dtype=torch.float32) / half)
        time = torch.arange(times, device=device, dtype=torch.float32).repeat_interleave(joints)
        angle = time[:, None] * frequency
        return angle.cos(), angle.sin()

    def forward(self, clips: Tensor, masks: Tensor | None = None) -> Tensor:
        out: Tensor = self.norm(self.blocks_output(clips, masks)[-1])
        return out

    def encode_last_blocks(
        self, clips: Tensor, n: int, masks: Tensor | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Of the last n blocks, oldest first: normalised (patches (B, T/8 * V, D), CLS (B, D))."""
        tokens = [self.norm(x) for x in self.blocks_output(clips, masks)[-n:]]
        return [(x[:, self.prefix :], x[:, 0]) for x in tokens]


def init_linear(module: nn.Module) -> None:
    """Truncated normal 0.02 for weights of linear layers and the patch embedding, zero biases."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
