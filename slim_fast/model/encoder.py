"""SLiM's encoder, a transformer over 8-frame patches of single joints (paper section 3.1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from slim_kernels import assemble_tokens, embed_tokens
from slim_kernels.runtime.dispatch import kernel_choice
from torch import Tensor, nn
from torch.jit._trace import is_tracing

from slim_fast.errors import UserError
from slim_fast.limits import Count, CountOrZero, Frames, Positive
from slim_fast.model.block import NORM_EPS, Block, PatchEmbed, is_plain_patch_embed
from slim_fast.model.packing import Packing, TokenSelection, pack_sequences
from slim_fast.model.padded import encode_padded
from slim_fast.model.streams import STREAMS, Stream, to_stream
from slim_fast.skeletons import Topology


@dataclass
class EncoderConfig:
    """Sizes of the encoder."""

    width: int = 256
    """Features of a token."""
    depth: Count = 8
    """Transformer blocks."""
    heads: int = 8
    """Attention heads; width / heads must be even."""
    ffn_ratio: Positive = 4.0
    """SwiGLU's hidden size is width * ratio * 2 / 3, rounded up to a multiple of 8."""
    registers: CountOrZero = 4
    """Register tokens."""
    patch_frames: int = 8
    """Frames of a temporal token."""
    window: Frames = 64
    """Frames that a clip is resampled to for evaluation. Pre-training sets views.window, because
    movements at another speed than it has seen cost accuracy.
    """
    attention: Literal["all", "visible"] = "all"
    """all: every token is attended to (the published recipe). visible: mask tokens are queries but
    not keys, and those of local views, which no loss reads, are dropped.
    """
    patch_init: Literal["normal", "conv"] = "normal"
    """Initial patch embedding. normal: as all weights (the paper); conv: PyTorch's default for a
    convolution, as in the release.
    """
    stream: Stream = "joint"
    """What the encoder makes of the joints that it is given. bone: joints minus their parents;
    motion: differences to the next frame.
    """

    def __post_init__(self) -> None:
        if (
            self.width < 1
            or self.heads < 1
            or self.width % self.heads
            or self.width // self.heads % 2
        ):
            raise UserError(
                f"encoder.width={self.width} and encoder.heads={self.heads} do not fit: "
                "width / heads must be an even whole number."
            )
        if self.depth < 1 or self.registers < 0 or not self.ffn_ratio > 0:
            raise UserError(
                f"encoder.depth={self.depth}, encoder.registers={self.registers} and "
                f"encoder.ffn_ratio={self.ffn_ratio}: needed are a block, no fewer registers than "
                "0, and a ratio above 0."
            )
        if self.window < 1 or self.patch_frames < 1 or self.window % self.patch_frames:
            raise UserError(
                f"encoder.window={self.window}: must be a positive multiple of "
                f"patch_frames={self.patch_frames}."
            )
        for name, known in (
            ("attention", ("all", "visible")),
            ("patch_init", ("normal", "conv")),
            ("stream", STREAMS),
        ):
            if (value := getattr(self, name)) not in known:
                raise UserError(
                    f"encoder.{name}={value!r} is not known: it is {' or '.join(known)}."
                )

    @property
    def hidden(self) -> int:
        return (int(self.width * self.ffn_ratio * 2 / 3) + 7) // 8 * 8


def check_kernels() -> None:
    """Raises: UserError for a SLIM_KERNELS that no operation would take."""
    try:
        kernel_choice()
    except ValueError as error:
        raise UserError(f"{error}.") from None


class Encoder(nn.Module):
    """Skeleton encoder; its state dict has the public checkpoints' names and shapes.

    joints, channels: V and C of the clips. topology, channel_names: which these are, where it is
    known; else the number of joints, and the first of "xyzc". The width of the features is
    `config.width`.
    """

    def __init__(self, config: EncoderConfig, joints: int = 25, channels: int = 3) -> None:
        super().__init__()
        check_kernels()
        self.config, self.joints, self.channels = config, joints, channels
        self.topology: Topology | int = joints
        self.channel_names = "xyzc"[:channels]
        self.patch_embed = PatchEmbed(channels, config.width, config.patch_frames)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        # CLS first, then the joints
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + joints, config.width))
        self.register_tokens = nn.Parameter(torch.zeros(1, config.registers, config.width))
        self.mask_token = nn.Parameter(torch.zeros(1, config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.hidden) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, NORM_EPS)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal 0.02 for weights and positions, 1e-6 for CLS and registers, else 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and self.config.patch_init == "conv":
                module.reset_parameters()
            elif isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.normal_(self.register_tokens, std=1e-6)
        nn.init.zeros_(self.mask_token)

    def set_drop_path(self, rate: float) -> None:
        """Leave branches of blocks out in training, ever more up to `rate` in the last block.

        The first block has none, those between grow evenly, as in timm. In eval mode nothing is
        left out.
        Raises: UserError unless 0 <= rate < 1.
        """
        if not 0 <= rate < 1:
            raise UserError(f"drop path {rate}: must be at least 0 and less than 1.")
        for number, block in enumerate(self.blocks):
            if isinstance(block, Block):
                block.drop_path = rate * number / max(1, len(self.blocks) - 1)

    def embed(
        self, views: Sequence[Tensor], masks: Sequence[Tensor | None], packed: Packing
    ) -> Tensor:
        """Clips of several lengths to the packed tokens (total, D) that `packed` holds.

        views: per group (N, T, V, C), T a multiple of patch_frames; masks: per group (N, T / patch,
        V) bool (True: the mask token stands in) or None.
        """
        views = [self.read_stream(clips) for clips in views]
        cls = self.cls_token[0] + self.pos_embed[0, :1]
        tokens = (
            self.mask_token[0],
            self.pos_embed[0, 1:],
            torch.cat([cls, self.register_tokens[0]]),
        )
        if not is_plain_patch_embed(self.patch_embed):
            patches = [self.patch_embed(clips.to(self.pos_embed.dtype)) for clips in views]
            for x, (n, times) in zip(patches, packed.groups, strict=True):
                if x.shape != (wanted := (n, times, self.joints, self.config.width)):
                    raise UserError(
                        f"The patch embedding that was put in gives {tuple(x.shape)} instead of "
                        f"{wanted}."
                    )
            return assemble_tokens(patches, masks, *tokens, packed.index)
        weight, bias = self.patch_embed.proj.weight[..., 0], self.patch_embed.proj.bias
        assert bias is not None
        return embed_tokens(views, masks, weight, bias, *tokens, index=packed.index)

    def read_stream(self, clips: Tensor) -> Tensor:
        """Clips (N, T, V, C) of joints as the stream that is embedded."""
        dims = len(self.channel_names.rstrip("c"))
        return to_stream(clips, self.config.stream, self.topology, dims)

    def pack(
        self,
        views: Sequence[Tensor],
        masks: Sequence[Tensor | None] | None = None,
        drop_masked: Sequence[bool] | None = None,
    ) -> Packing:
        """Where the tokens of clips (N, T, V, C) of several lengths lie once they are embedded.

        masks, and drop_masked (whether a group's masked tokens are not needed; None: they are),
        matter where attention is to visible tokens only.
        Raises: UserError for clips of another shape.
        """
        for clips in views:
            if (
                clips.shape[2:] != (self.joints, self.channels)
                or clips.shape[1] % self.config.patch_frames
            ):
                raise UserError(
                    f"The encoder takes clips (N, T, {self.joints} joints, {self.channels} "
                    f"channels), T a multiple of {self.config.patch_frames}; got "
                    f"{tuple(clips.shape)}."
                )
        groups = tuple(
            (clips.shape[0], clips.shape[1] // self.config.patch_frames) for clips in views
        )
        packed = pack_sequences(
            groups, 1 + self.config.registers, self.joints, self.pos_embed.device
        )
        if masks is None or self.config.attention == "all":
            return packed
        return packed.restrict_keys(masks, drop_masked or [False] * len(groups))

    def encode_packed(
        self,
        views: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        packed: Packing | None = None,
        selection: TokenSelection | None = None,
    ) -> tuple[Tensor, Packing]:
        """All sequences of all groups in one packed pass.

        views, masks: see `embed`. packed: from `pack`; None: every token. selection: the packed
        rows that are needed; the last block computes only them.
        Returns final-LayerNormed features, (total, D) or (R, D), and the packing.
        """
        if packed is None:
            packed = self.pack(views, masks)
        x = self.embed(views, masks, packed)
        for block in self.blocks[:-1]:
            x = block(x, packed)
        return self.norm(self.blocks[-1](x, packed, selection)), packed

    def encode_layers(
        self,
        views: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        blocks: Sequence[int],
        norm: bool = True,
    ) -> list[list[Tensor]]:
        """Outputs of the numbered blocks, one tensor (N, prefix + T / patch * V, D) a group.

        views, masks: see `embed`. norm: through the final LayerNorm.
        """
        if is_tracing():
            groups = (
                encode_padded(self, x, mask, blocks) for x, mask in zip(views, masks, strict=True)
            )
            return [
                [self.norm(h) if norm else h for h in layer] for layer in zip(*groups, strict=True)
            ]
        packed = self.pack(views, masks)
        shapes = [
            (n, packed.prefix + t * packed.joints, self.config.width) for n, t in packed.groups
        ]
        h = self.embed(views, masks, packed)
        outputs = []
        for number, block in enumerate(self.blocks[: max(blocks, default=-1) + 1]):
            h = block(h, packed)
            if number in blocks:
                groups = (self.norm(h) if norm else h).split(
                    [n * length for n, length, _ in shapes]
                )
                outputs.append([x.view(shape) for x, shape in zip(groups, shapes, strict=True)])
        return outputs

    def encode_last_blocks(
        self, clips: Tensor, mask: Tensor | None, n: int
    ) -> list[tuple[Tensor, Tensor]]:
        """(patches (N, T / patch * V, D), CLS (N, D)) of the last n blocks, oldest first."""
        prefix = 1 + self.config.registers
        sequences = self.encode_layers(
            [clips], [mask], range(self.config.depth - n, self.config.depth)
        )
        return [(x[:, prefix:], x[:, 0]) for (x,) in sequences]
