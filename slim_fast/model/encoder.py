"""SLiM's encoder: a small symmetric transformer over 8-frame patches of single joints (paper section 3.1; recipe of
the release).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from slim_kernels import embed_tokens, linear_residual, norm_attention, norm_swiglu
from torch import Tensor, nn

from slim_fast.errors import UserError
from slim_fast.model.packing import Packing, Reading, packing

NORM_EPS = 1e-6


@dataclass
class EncoderConfig:
    """Sizes of the encoder."""

    width: int = 256
    """Features of a token."""
    depth: int = 8
    """Transformer blocks."""
    heads: int = 8
    """Attention heads; width / heads must be even."""
    ffn_ratio: float = 4.0
    """Feed-forward width before SwiGLU's two thirds: the hidden size is width * ratio * 2 / 3, rounded up to 8."""
    registers: int = 4
    """Register tokens."""
    patch_frames: int = 8
    """Frames of a temporal token."""
    attention: Literal["all", "visible"] = "all"
    """all: every token is attended to (the published recipe). visible: mask tokens ask but are not asked, and those of
    local views, which no loss reads, are left out of the batch."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.heads < 1 or self.width % self.heads or self.width // self.heads % 2:
            raise UserError(
                f"encoder.width={self.width} and encoder.heads={self.heads} do not fit: "
                "width / heads must be an even whole number."
            )
        if self.attention not in ("all", "visible"):
            raise UserError(f"encoder.attention={self.attention!r} is not known: it is all or visible.")

    @property
    def hidden(self) -> int:
        return (int(self.width * self.ffn_ratio * 2 / 3) + 7) // 8 * 8


class Attention(nn.Module):
    """Parameters of a block's attention (names of the public checkpoints)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)


class SwiGLU(nn.Module):
    """Parameters of a block's feed-forward (names of the public checkpoints)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)


class Block(nn.Module):
    """Pre-norm transformer block on packed tokens."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(config.width, NORM_EPS)
        self.attn = Attention(config.width)
        self.norm2 = nn.LayerNorm(config.width, NORM_EPS)
        self.mlp = SwiGLU(config.width, config.hidden)

    def forward(self, x: Tensor, packed: Packing, read: Reading | None = None) -> Tensor:
        """x (total, D) -> (total, D), or only the rows that are `read`, (R, D), when nothing else is needed."""
        norm, qkv = self.norm1, self.attn.qkv
        attended = norm_attention(
            x,
            norm.weight,
            norm.bias,
            qkv.weight,
            qkv.bias,
            packed.cu_seqlens,
            packed.max_seqlen,
            time=packed.time,
            heads=self.heads,
            queries=None if read is None else read.queries,
            visible=packed.visible,
            buckets=packed.buckets,
            eps=NORM_EPS,
        )
        if read is not None:
            x, attended = x.index_select(0, read.rows), attended.index_select(0, read.rows)
        x = linear_residual(attended, self.attn.proj.weight, self.attn.proj.bias, x)
        mlp = self.mlp
        return norm_swiglu(
            x, self.norm2.weight, self.norm2.bias, mlp.w12.weight, mlp.w12.bias, mlp.w3.weight, mlp.w3.bias, NORM_EPS
        )


class PatchEmbed(nn.Module):
    """One linear map of the patch_frames coordinates of one joint, kept as the public checkpoints' (8, 1)
    convolution.
    """

    def __init__(self, config: EncoderConfig, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, config.width, (config.patch_frames, 1), (config.patch_frames, 1))


class Encoder(nn.Module):
    """Skeleton encoder; its state dict has the public checkpoints' names and shapes.

    joints, channels: V and C of the clips. The width of the features is `config.width`.
    """

    def __init__(self, config: EncoderConfig, joints: int = 25, channels: int = 3) -> None:
        super().__init__()
        self.config, self.joints, self.channels = config, joints, channels
        self.patch_embed = PatchEmbed(config, channels)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + joints, config.width))  # CLS first, then the joints
        self.register_tokens = nn.Parameter(torch.zeros(1, config.registers, config.width))
        self.mask_token = nn.Parameter(torch.zeros(1, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, NORM_EPS)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal 0.02 for linear weights and positions, zero biases, CLS and registers normal 1e-6, mask
        token zero.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.normal_(self.register_tokens, std=1e-6)
        nn.init.zeros_(self.mask_token)

    def embed(self, views: Sequence[Tensor], masks: Sequence[Tensor | None], packed: Packing) -> Tensor:
        """Clips of several lengths to the packed tokens (total, D) that `packed` holds.

        views: per group (N, T, V, C), T a multiple of patch_frames; masks: per group (N, T / patch, V) bool (True: the
        mask token stands in) or None.
        """
        cls = self.cls_token[0] + self.pos_embed[0, :1]
        weight, bias = self.patch_embed.proj.weight[..., 0], self.patch_embed.proj.bias
        assert bias is not None
        return embed_tokens(
            views,
            masks,
            weight,
            bias,
            self.mask_token[0],
            self.pos_embed[0, 1:],
            torch.cat([cls, self.register_tokens[0]]),
            index=packed.index,
        )

    def pack(
        self,
        views: Sequence[Tensor],
        masks: Sequence[Tensor | None] | None = None,
        unread: Sequence[bool] | None = None,
    ) -> Packing:
        """Where the tokens of clips (N, T, V, C) of several lengths lie once they are embedded.

        masks, and unread (whether nobody reads a group's masked tokens; None: they are read) matter where attention is
        to visible tokens only.
        Raises: UserError for clips of another shape.
        """
        for clips in views:
            if clips.shape[2:] != (self.joints, self.channels) or clips.shape[1] % self.config.patch_frames:
                raise UserError(
                    f"The encoder takes clips (N, T, {self.joints} joints, {self.channels} channels), T a multiple of "
                    f"{self.config.patch_frames}; got {tuple(clips.shape)}."
                )
        groups = tuple((clips.shape[0], clips.shape[1] // self.config.patch_frames) for clips in views)
        packed = packing(groups, 1 + self.config.registers, self.joints, self.pos_embed.device)
        if masks is None or self.config.attention == "all":
            return packed
        return packed.only_visible_asked(masks, unread or [False] * len(groups))

    def encode_packed(
        self,
        views: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        packed: Packing | None = None,
        read: Reading | None = None,
    ) -> tuple[Tensor, Packing]:
        """All sequences of all groups in one packed pass.

        views, masks: see `embed`. packed: from `pack`; None: every token. read: the packed rows that are needed; the
        last block answers only them.
        Returns final-LayerNormed features, (total, D) or (R, D), and the packing.
        """
        if packed is None:
            packed = self.pack(views, masks)
        x = self.embed(views, masks, packed)
        for block in self.blocks[:-1]:
            x = block(x, packed)
        return self.norm(self.blocks[-1](x, packed, read)), packed

    def layers(
        self, views: Sequence[Tensor], masks: Sequence[Tensor | None], blocks: Sequence[int], norm: bool = True
    ) -> list[list[Tensor]]:
        """What the numbered blocks answer: for each of `blocks`, rising, one tensor a group, (N, prefix + T / patch *
        V, D).

        views, masks: see `embed`. norm: through the final LayerNorm.
        """
        packed = self.pack(views, masks)
        shapes = [(n, packed.prefix + t * packed.joints, self.config.width) for n, t in packed.groups]
        h = self.embed(views, masks, packed)
        outputs = []
        for number, block in enumerate(self.blocks[: max(blocks, default=-1) + 1]):
            h = block(h, packed)
            if number in blocks:
                groups = (self.norm(h) if norm else h).split([n * length for n, length, _ in shapes])
                outputs.append([x.view(shape) for x, shape in zip(groups, shapes, strict=True)])
        return outputs

    def last_blocks(self, clips: Tensor, mask: Tensor | None, n: int) -> list[tuple[Tensor, Tensor]]:
        """(patches (N, T / patch * V, D), CLS (N, D)) of the last n blocks for clips (N, T, V, C), oldest first."""
        prefix = 1 + self.config.registers
        sequences = self.layers([clips], [mask], range(self.config.depth - n, self.config.depth))
        return [(x[:, prefix:], x[:, 0]) for (x,) in sequences]
