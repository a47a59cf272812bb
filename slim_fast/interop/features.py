"""Features of clips with people: the methods of SLiM's release, people folded in, empty ones skipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from slim_fast.data.clips import coordinate_count
from slim_fast.errors import UserError
from slim_fast.interop.graphs import Graphs
from slim_fast.interop.layouts import check_clips
from slim_fast.interop.people import People, fold, present_people, resample
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.skeletons import Topology, get_topology


class PeopleEncoder(Encoder):
    """An encoder of clips with people; see SLiMEncoder, which adds where weights come from and go to."""

    def __init__(
        self,
        topology: Topology | str | int = "ntu-25",
        channels: str = "xyz",
        config: EncoderConfig | None = None,
        *,
        skip_empty: bool = True,
        resample: bool = False,
    ) -> None:
        coordinate_count(channels)
        topology = get_topology(topology) if isinstance(topology, str) else topology
        joints = topology if isinstance(topology, int) else topology.num_joints
        super().__init__(config or EncoderConfig(), joints, len(channels))
        self.topology, self.channel_names = topology, channels
        self.skip_empty, self.resample = skip_empty, resample
        self._graphs: Graphs | None = None

    @property
    def embed_dim(self) -> int:
        """Features of a token."""
        return self.config.width

    @property
    def num_features(self) -> int:
        """Features of a token."""
        return self.config.width

    @property
    def patch_size(self) -> int:
        """Frames of a temporal token."""
        return self.config.patch_frames

    def forward(
        self,
        x: Tensor | Sequence[Tensor],
        masks: Tensor | Sequence[Tensor | None] | None = None,
        is_training: bool = False,
        people: Tensor | None = None,
    ) -> Any:
        """CLS of the last block, (B * M, D), or with is_training all that `forward_features` gives.

        x: (B, C, T, V, M), or with is_training a list of such of several lengths; masks: (B * M, T / 8 * V) bool, True:
        the mask token stands in; people: (B, M) bool, who is there (None: who is not all zeros).
        Raises: UserError for clips of another shape or on another device.
        """
        if is_training:
            return self.forward_features(x, masks, people)
        if not isinstance(x, Tensor):
            raise UserError("A list of clips is taken with is_training=True, or by forward_features.")
        ((cls,),) = self._answers([self._folded(x, masks, people)], "cls")  # type: ignore[arg-type]
        return cls

    def forward_features(
        self,
        x: Tensor | Sequence[Tensor],
        masks: Tensor | Sequence[Tensor | None] | None = None,
        people: Tensor | Sequence[Tensor | None] | None = None,
    ) -> Any:
        """The last block's tokens: {"x_norm_clstoken" (B * M, D), "x_norm_regtokens" (B * M, 4, D),
        "x_norm_patchtokens" (B * M, T / 8 * V, D), time-major, "x_prenorm" all of them before the final LayerNorm,
        "masks", "people" (B, M) bool, whose answers are theirs and not zeros}.

        x, masks, people: as `forward`; lists give a list, computed in one packed pass.
        """
        if isinstance(x, Tensor):
            return self.forward_features([x], [masks], [people])[0]  # type: ignore[list-item]
        nobody: list[Tensor | None] = [None] * len(x)
        hidden, there = (nobody if given is None else list(given) for given in (masks, people))
        groups = [self._folded(*group) for group in zip(x, hidden, there, strict=True)]
        raw, normed = self._answers(groups, "last")
        return [
            {
                "x_norm_clstoken": tokens[:, 0],
                "x_norm_regtokens": tokens[:, 1 : self._prefix],
                "x_norm_patchtokens": tokens[:, self._prefix :],
                "x_prenorm": before,
                "masks": mask,
                "people": group.present,
            }
            for group, tokens, before, mask in zip(groups, normed, raw, hidden, strict=True)
        ]

    def get_intermediate_layers(
        self,
        x: Tensor,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_class_token: bool = False,
        norm: bool = True,
        people: Tensor | None = None,
    ) -> tuple[Any, ...]:
        """Outputs of the last n blocks, or of the blocks numbered in n, oldest first.

        x, people: as `forward`. norm: through the final LayerNorm. reshape: patches as (B * M, D, T / 8, V).
        Returns one tensor of patches (B * M, T / 8 * V, D) a block, or (patches, CLS (B * M, D)) with
        return_class_token.
        """
        depth = self.config.depth
        blocks = range(depth - n, depth) if isinstance(n, int) else sorted(n)
        if not blocks or not set(blocks) <= set(range(depth)):
            raise UserError(f"get_intermediate_layers: n={n} names no blocks of this encoder's {depth}.")
        layers = [tokens for (tokens,) in self._answers([self._folded(x, None, people)], blocks, norm)]
        patches = [tokens[:, self._prefix :] for tokens in layers]
        if reshape:
            patches = [p.unflatten(1, (-1, self.joints)).permute(0, 3, 1, 2).contiguous() for p in patches]
        return (
            tuple(zip(patches, (tokens[:, 0] for tokens in layers), strict=True))
            if return_class_token
            else tuple(patches)
        )

    @property
    def _prefix(self) -> int:
        return 1 + self.config.registers

    def _answers(
        self, groups: Sequence[People], wanted: Sequence[int] | Literal["last", "cls"], norm: bool = True
    ) -> list[list[Tensor]]:
        """Whole sequences (B * M, tokens, D) of the blocks `wanted`, as `Encoder.layers`; "last": of the last block,
        before and after the final LayerNorm; "cls": only its CLS (B * M, D).
        """
        last = (self.config.depth - 1,)

        def run(clips: list[Tensor], hidden: list[Tensor | None]) -> list[list[Tensor]]:
            if wanted == "cls":
                packed = self.pack(clips, hidden)
                cls, _ = self.encode_packed(clips, hidden, packed, packed.reading([None] * len(clips)))
                return [list(cls.split([len(group) for group in clips]))]
            if wanted == "last":
                (raw,) = self.layers(clips, hidden, last, norm=False)
                return [raw, [self.norm(tokens) for tokens in raw]]
            assert not isinstance(wanted, str)
            return self.layers(clips, hidden, wanted, norm)

        inputs = [group.clips for group in groups], [group.masks for group in groups]
        key = (wanted if isinstance(wanted, str) else tuple(wanted), norm)
        answers = run(*inputs) if self._graphs is None else self._graphs(run, *inputs, key)
        return [[group.spread(x) for group, x in zip(groups, layer, strict=True)] for layer in answers]

    def _folded(self, x: Tensor, masks: Tensor | None, people: Tensor | None) -> People:
        patch, weights = self.config.patch_frames, self.pos_embed
        if self.resample and isinstance(x, Tensor) and x.dim() == 5 and x.shape[2]:
            x = resample(x, max(1, round(x.shape[2] / patch)) * patch)
        check_clips(x, self.joints, self.channels, self.topology, patch)
        for name, tensor in (("clips", x), ("masks", masks), ("people", people)):
            if tensor is not None and tensor.device != weights.device:
                raise UserError(
                    f"The encoder is on {weights.device} but the {name} are on {tensor.device}; "
                    f"move one of them: {name}.to({str(weights.device)!r})."
                )
        batch, _, frames, _, places = x.shape
        if masks is not None:
            grid = (batch * places, frames // patch, self.joints)
            if masks.dtype != torch.bool or masks.numel() != grid[0] * grid[1] * grid[2]:
                raise UserError(
                    f"masks must be bool (B * M, T / {patch} * V) = {(grid[0], grid[1] * grid[2])}; got {masks.dtype} "
                    f"{tuple(masks.shape)}."
                )
            masks = masks.reshape(grid)
        if people is not None and (people.dtype != torch.bool or people.shape != (batch, places)):
            raise UserError(
                f"people must be bool (B, M) = {(batch, places)}; got {people.dtype} {tuple(people.shape)}."
            )
        if people is None and self.skip_empty:
            people = present_people(x, self.channel_names)
        # Coordinates have more digits than half precision keeps: the embedding takes them as they are.
        exact = torch.promote_types(weights.dtype, torch.float32)
        return fold(x, masks, people, self._graphs is None and not torch.compiler.is_compiling(), exact)
