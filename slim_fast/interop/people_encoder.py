"""PeopleEncoder: the forward methods of SLiM's release, on clips of several people."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.jit._trace import is_tracing

from slim_fast.data.clips import count_coordinates
from slim_fast.errors import UserError
from slim_fast.interop.clips.checks import (
    check_clips,
    check_masks,
    check_people,
    check_tensor,
    static_shape,
)
from slim_fast.interop.clips.host import fold_on_host
from slim_fast.interop.clips.people import (
    PeopleBatch,
    find_present_people,
    fold_people,
    resample,
    zero_undetected,
)
from slim_fast.interop.clips.plausible import warn_if_implausible
from slim_fast.interop.cuda_graphs import CudaGraphs
from slim_fast.interop.runtimes.programs import Runtimes
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.model.files import parse_description
from slim_fast.skeletons import Topology, get_topology


class PeopleEncoder(Encoder):
    """Encodes people of clips (B, C, T, V, M), folded into the batch; see SLiMEncoder."""

    def __init__(
        self,
        topology: Topology | str | int | None = None,
        channels: str | None = None,
        config: EncoderConfig | Mapping[str, Any] | None = None,
        *,
        skip_empty: bool = True,
        resample: bool = False,
    ) -> None:
        config, topology, channels = _resolve_config(config, topology, channels)
        count_coordinates(channels)
        topology = get_topology(topology) if isinstance(topology, str) else topology
        joints = topology if isinstance(topology, int) else topology.num_joints
        super().__init__(config, joints, len(channels))
        self.topology, self.channel_names = topology, channels
        self.skip_empty, self.resample = skip_empty, resample
        self.head: nn.Module = nn.Identity()  # applied to the CLS token in forward
        self._graphs: CudaGraphs | None = None
        self._runtimes: Runtimes | None = None
        self.training_record: Mapping[str, Any] | None = None
        """Of the run that trained the weights, where it is known; for the model card."""

    @property
    def embed_dim(self) -> int:
        """Features of a token."""
        return self.config.width

    num_features = embed_dim

    @property
    def patch_size(self) -> tuple[int, int]:
        """Frames and joints of a token."""
        return self.patch_embed.patch_size

    @property
    def num_register_tokens(self) -> int:
        """Registers of a person."""
        return self.config.registers

    @property
    def n_blocks(self) -> int:
        """Transformer blocks."""
        return self.config.depth

    @property
    def num_heads(self) -> int:
        """Attention heads of a block."""
        return self.config.heads

    num_tokens = 1  # of a person beside registers and patches: CLS
    chunked_blocks = False  # blocks are a plain list
    _has_looked = False
    cls_blocks = 1
    """`forward_features` gives the CLS tokens of so many of the last blocks."""

    def forward(
        self,
        x: Tensor | Sequence[Tensor],
        masks: Tensor | Sequence[Tensor | None] | None = None,
        is_training: bool = False,
        people: Tensor | None = None,
    ) -> Any:
        """CLS of the last block, (B * M, D), or with is_training the output of `forward_features`.

        Args:
            x: clips (B, C, T, V, M), or with is_training a list of clips of several lengths.
            masks: (B * M, T / 8 * V) bool, True: the mask token replaces the patch.
            people: (B, M) bool, who is present; None: whose joints spread, see
                `find_present_people`.

        Raises: UserError for clips of another shape or on another device.
        """
        if is_training:
            return self.forward_features(x, masks, people)
        if isinstance(x, list | tuple):
            raise UserError("A list of clips needs is_training=True, or forward_features.")
        ((cls,),) = self._encode([self._fold(x, masks, people)], "cls")  # type: ignore[arg-type]
        return self.head(cls)

    def forward_features(
        self,
        x: Tensor | Sequence[Tensor],
        masks: Tensor | Sequence[Tensor | None] | None = None,
        people: Tensor | Sequence[Tensor | None] | None = None,
    ) -> Any:
        """The last block's tokens, in a dict.

        "x_norm_clstoken" (B * M, D), "x_norm_regtokens" (B * M, 4, D), "x_norm_patchtokens" (B * M,
        T / 8 * V, D), time-major; "x_prenorm", all tokens before the final LayerNorm; "masks";
        "people" (B, M) bool, who was encoded (the others' rows are zeros); with cls_blocks > 1
        "x_norm_clstokens" (B * M, cls_blocks, D), of the last blocks, oldest first.

        x, masks, people: as `forward`; lists give a list, computed in one packed pass.
        """
        if not isinstance(x, list | tuple):
            return self.forward_features([x], [masks], [people])[0]  # type: ignore[list-item]
        none: list[Tensor | None] = [None] * len(x)
        masks, people = (none if given is None else list(given) for given in (masks, people))
        groups = [self._fold(*group) for group in zip(x, masks, people, strict=True)]
        raw, normed, *cls_tokens = self._encode(groups, "last")
        outputs = [
            {
                "x_norm_clstoken": tokens[:, 0],
                "x_norm_regtokens": tokens[:, 1 : self._prefix],
                "x_norm_patchtokens": tokens[:, self._prefix :],
                "x_prenorm": before,
                "masks": mask,
                "people": group.present,
            }
            for group, tokens, before, mask in zip(groups, normed, raw, masks, strict=True)
        ]
        for layer in cls_tokens:
            for output, tokens in zip(outputs, layer, strict=True):
                output["x_norm_clstokens"] = tokens
        return outputs

    def get_intermediate_layers(
        self,
        x: Tensor,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_class_token: bool = False,
        norm: bool = True,
        people: Tensor | None = None,
    ) -> tuple[Any, ...]:
        """Patches of the last n blocks, or of the blocks numbered in n, first to last.

        x, people: as `forward`. norm: apply the final LayerNorm.
        Returns for each block patches (B * M, T / 8 * V, D), with reshape (B * M, D, T / 8, V); or
        with return_class_token pairs of patches and CLS (B * M, D).
        Raises: UserError for blocks that do not exist.
        """
        depth = self.config.depth
        blocks = range(depth - n, depth) if isinstance(n, int) else sorted(n)
        if not blocks or not set(blocks) <= set(range(depth)):
            raise UserError(
                f"get_intermediate_layers: n={n} names no blocks of this encoder's {depth}."
            )
        layers = [tokens for (tokens,) in self._encode([self._fold(x, None, people)], blocks, norm)]
        patches = [tokens[:, self._prefix :] for tokens in layers]
        if reshape:
            patches = [
                rearrange(p, "b (t v) d -> b d t v", v=self.joints).contiguous() for p in patches
            ]
        if not return_class_token:
            return tuple(patches)
        return tuple(zip(patches, (tokens[:, 0] for tokens in layers), strict=True))

    @property
    def _prefix(self) -> int:
        """Tokens before the patches: CLS and registers."""
        return 1 + self.config.registers

    def _encode(
        self,
        groups: Sequence[PeopleBatch],
        blocks: Sequence[int] | Literal["last", "cls"],
        norm: bool = True,
    ) -> list[list[Tensor]]:
        """Whole sequences (B * M, tokens, D) of the numbered blocks, one list of groups a block.

        blocks: "last": the last block's, before and after the final LayerNorm, and with cls_blocks
        > 1 the CLS tokens (B * M, cls_blocks, D) of the last blocks; "cls": only the last block's
        CLS (B * M, D), for which it computes nothing else.
        """
        depth = self.config.depth

        def run(clips: list[Tensor], masks: list[Tensor | None]) -> list[list[Tensor]]:
            if blocks == "cls" and is_tracing():
                (layer,) = self.encode_layers(clips, masks, (depth - 1,))
                return [[tokens[:, 0] for tokens in layer]]
            if blocks == "cls":
                packed = self.pack(clips, masks)
                cls_tokens = packed.select([None] * len(clips))
                cls, _ = self.encode_packed(clips, masks, packed, cls_tokens)
                return [list(cls.split([len(group) for group in clips]))]
            if blocks == "last":
                kept = range(depth - self.cls_blocks, depth)
                layers = self.encode_layers(clips, masks, kept, norm=False)
                normed = [self.norm(tokens) for tokens in layers[-1]]
                each = zip(*layers, strict=True) if self.cls_blocks > 1 else ()
                several = [self.norm(torch.stack([x[:, 0] for x in group], 1)) for group in each]
                return [layers[-1], normed, *([several] if several else [])]
            assert not isinstance(blocks, str)
            return self.encode_layers(clips, masks, blocks, norm)

        inputs = [group.clips for group in groups], [group.masks for group in groups]
        key = (blocks if isinstance(blocks, str) else tuple(blocks), norm)
        through = self._graphs or self._runtimes
        layers = run(*inputs) if through is None else through(run, *inputs, key)
        return [
            [group.scatter(x) for group, x in zip(groups, layer, strict=True)] for layer in layers
        ]

    def _resample_to_tokens(self, x: Tensor) -> Tensor:
        """Clips (B, C, T, V, M) resampled to the nearest multiple of patch_frames."""
        patch, length = self.config.patch_frames, static_shape(x)[2]
        if length % patch == 0:
            return x
        return resample(x, max(1, round(length / patch)) * patch, self.channel_names)

    def _fold(self, x: Tensor, masks: Tensor | None, people: Tensor | None) -> PeopleBatch:
        """Check clips, masks and people, and fold the people into the batch."""
        patch, weights = self.config.patch_frames, self.pos_embed
        for name, given in (("clips", x), ("masks", masks), ("people", people)):
            if given is not None:
                check_tensor(given, name)
        if x.dim() == 5 and static_shape(x)[1] == self.channels:
            x = zero_undetected(x, self.channel_names)
        if self.resample and x.dim() == 5:
            x = self._resample_to_tokens(x)
        check_clips(x, self.joints, self.channels, self.topology, patch)
        for name, tensor in (("clips", x), ("masks", masks), ("people", people)):
            if tensor is not None and tensor.device != weights.device:
                raise UserError(
                    f"The encoder is on {weights.device} but the {name} are on {tensor.device}; "
                    f"move one of them: {name}.to({str(weights.device)!r})."
                )
        masks = None if masks is None else check_masks(masks, x, patch)
        if people is not None:
            check_people(people, x)
        is_eager = not torch.compiler.is_compiling() and not is_tracing()
        if is_eager and not self._has_looked:
            self._has_looked = True
            self._look_at(x)
        if self._runtimes and is_eager and masks is None and x.numel() and not x.requires_grad:
            return fold_on_host(x, people, self.skip_empty, self.channel_names)
        if people is None and self.skip_empty:
            people = find_present_people(x, self.channel_names)
        # Half precision would lose digits of the coordinates: they are embedded in float32.
        dtype = torch.promote_types(weights.dtype, torch.float32)
        # Dropping the absent changes shapes, which graphs, compilers and tracers do not allow.
        return fold_people(x, masks, people, is_eager and self._graphs is None, dtype)

    def _look_at(self, x: Tensor) -> None:
        """Warn of what is implausible about the first clips (B, C, T, V, M)."""
        warn_if_implausible(type(self).__name__, x, self.topology, self.channel_names)


def _resolve_config(
    config: EncoderConfig | Mapping[str, Any] | None,
    topology: Topology | str | int | None,
    channels: str | None,
) -> tuple[EncoderConfig, Topology | str | int, str]:
    """Fill in what is not given from the fields of a config.json, or with the released values.

    Raises: UserError when they contradict each other, or describe no encoder.
    """
    if isinstance(config, Mapping):
        about = parse_description(config, {}, "config")
        channels = channels or about.channels
        topology = about.topology if topology is None else topology
        given = get_topology(topology) if isinstance(topology, str) else topology
        joints = given if isinstance(given, int) else given.num_joints
        if (about.joints, len(about.channels)) != (joints, len(channels)):
            raise UserError(
                f"The config is of {about.joints} joints and {len(about.channels)} channels, and "
                f"not of {joints} and {len(channels)}: leave topology and channels out, or the "
                "config."
            )
        return about.config, topology, channels
    return config or EncoderConfig(), "ntu-25" if topology is None else topology, channels or "xyz"
