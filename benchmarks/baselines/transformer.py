"""The transformer that the masked baselines share, in plain eager PyTorch.

SkeletonMAE, MAMP, S-JEPA and GFP all take 120 frames of one person, cut into patches of 4 frames of
one joint: 750 tokens of 256 features, with learned embeddings of time and of joint added, through 8
pre-norm blocks (MAMP, Mao et al., arXiv 2308.07092). While training, the encoder sees only the
visible tokens; afterwards it sees all. People are folded into the batch by the caller.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.baselines.masking import Masking, patches, split_tokens, take


@dataclass(frozen=True)
class MaskedConfig:
    """Sizes and masking; the defaults are the papers'."""

    frames: int = 120
    joints: int = 25
    channels: int = 3
    patch_frames: int = 4
    width: int = 256
    depth: int = 8
    heads: int = 8
    mlp_ratio: int = 4
    masking: Masking = "motion"
    mask_ratio: float = 0.9
    num_visible: int | None = None
    """Tokens that the encoder sees in training; None: derived from mask_ratio, see `visible`."""
    motion_temperature: float = 0.75
    attention: Literal["sdpa", "explicit"] = "sdpa"
    """explicit: softmax(q kᵀ) v with the scores in memory, as the authors wrote it."""

    @property
    def times(self) -> int:
        return self.frames // self.patch_frames

    @property
    def tokens(self) -> int:
        return self.times * self.joints

    @property
    def patch_numbers(self) -> int:
        return self.patch_frames * self.channels

    @property
    def visible(self) -> int:
        """`num_visible`, or the whole part of tokens * (1 - mask_ratio): of 750 and 0.9 that is 74,
        as in the published code, because 1 - 0.9 is a little less than a tenth.
        """
        derived = int(self.tokens * (1 - self.mask_ratio))
        return derived if self.num_visible is None else self.num_visible


class Attention(nn.Module):
    """Self-attention of (B, N, D)."""

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        self.heads, self.explicit = config.heads, config.attention == "explicit"
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        # (B, H, N, d) each
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.explicit:
            x = torch.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, dim=-1) @ v
        else:
            x = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(x.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Pre-norm attention and GELU feed-forward of (B, N, D)."""

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.width)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, config.mlp_ratio * config.width),
            nn.GELU(),
            nn.Linear(config.mlp_ratio * config.width, config.width),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def blocks(config: MaskedConfig, depth: int) -> nn.Sequential:
    return nn.Sequential(*(Block(config) for _ in range(depth)))


class Positions(nn.Module):
    """Learned embeddings of time and of joint, one sum for each token."""

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        self.time = nn.Parameter(
            nn.init.trunc_normal_(torch.empty(config.times, 1, config.width), std=0.02)
        )
        self.joint = nn.Parameter(
            nn.init.trunc_normal_(torch.empty(config.joints, config.width), std=0.02)
        )

    def forward(self) -> Tensor:
        return (self.time + self.joint).flatten(0, 1)  # (N, D)


class SkeletonEncoder(nn.Module):
    """Clips (B, T, V, C) to tokens (B, N, D), or (B, K, D) of `visible`, int64 (B, K)."""

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        self.patch_frames = config.patch_frames
        self.embed = nn.Linear(config.patch_numbers, config.width)
        self.positions = Positions(config)
        self.blocks = blocks(config, config.depth)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, clips: Tensor, visible: Tensor | None = None) -> Tensor:
        x = self.embed(patches(clips, self.patch_frames)) + self.positions()  # (B, N, D)
        out: Tensor = self.norm(self.blocks(x if visible is None else take(x, visible)))
        return out


class MaskTokens(nn.Module):
    """Visible tokens (B, K, D) at int64 indices (B, K), mask tokens elsewhere -> (B, N, D)."""

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(config.width), std=0.02))
        self.positions = Positions(config)

    def forward(self, visible: Tensor, indices: Tensor) -> Tensor:
        positions = self.positions()
        batch, _, width = visible.shape
        x = self.token.to(visible.dtype).expand(batch, len(positions), width)
        return x.scatter(1, indices[..., None].expand(-1, -1, width), visible) + positions


class Decoder(nn.Module):
    """Visible tokens (B, K, D) and their int64 indices (B, K) to predictions of all (B, N, out).

    out None: the normalised tokens themselves, (B, N, D). There is no linear layer between encoder
    and decoder, which are equally wide: the decoder's published cost is met best without one.
    """

    def __init__(self, config: MaskedConfig, depth: int, out: int | None = None) -> None:
        super().__init__()
        self.fill = MaskTokens(config)
        self.blocks = blocks(config, depth)
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Identity() if out is None else nn.Linear(config.width, out)

    def forward(self, visible: Tensor, indices: Tensor) -> Tensor:
        x: Tensor = self.head(self.norm(self.blocks(self.fill(visible, indices))))
        return x


class MaskedModel(nn.Module):
    """An encoder and how it is trained; subclasses say what is predicted, in `loss`."""

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = SkeletonEncoder(config)

    def forward(self, clips: Tensor) -> Tensor:
        """What is used after training: all tokens (B, N, D) of clips (B, T, V, C), normalised."""
        out: Tensor = self.encoder(clips)
        return out

    def split(self, clips: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Indices of the visible tokens (B, K) and of the masked ones (B, N - K)."""
        c = self.config
        return split_tokens(
            clips, c.patch_frames, c.visible, c.masking, c.motion_temperature, generator
        )

    def loss(self, clips: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The loss of clips (B, T, V, C), a scalar. generator: of the masks, on their device."""
        raise NotImplementedError

    def training_step(
        self,
        optimizer: torch.optim.Optimizer,
        clips: Tensor,
        autocast: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """One step on clips (B, T, V, C); returns "loss", a scalar without a graph."""
        with torch.autocast(clips.device.type, dtype=autocast) if autocast else nullcontext():
            loss = self.loss(clips, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach()}


def init_weights(module: nn.Module) -> None:
    """Truncated normal 0.02 for the weights of linear layers, zero biases; for `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
