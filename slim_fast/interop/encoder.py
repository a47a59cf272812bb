"""SLiM's encoder as other code bases know it: the release's method names, people folded in, empty ones skipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import Self

from slim_fast.data.clips import coordinate_count
from slim_fast.errors import UserError
from slim_fast.interop.checkpoint import Checkpoint, read_checkpoint
from slim_fast.interop.graphs import Graphs
from slim_fast.interop.layouts import check_clips
from slim_fast.interop.people import People, fold, present_people, resample
from slim_fast.interop.transfer import to_skeleton
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.model.files import Description, save_encoder
from slim_fast.model.frozen import freeze
from slim_fast.skeletons import Topology, get_topology
from slim_fast.training.machine import choose_dtype


class SLiMEncoder(Encoder):
    """SLiM's encoder (paper section 3.1) with the interface of the authors' release.

    Clips are (B, C, T, V, M) floating-point: coordinates (metres, the centre joint of the first frame at the origin),
    frames, joints, people. People are folded into the batch, b-major: row b * M + m of the answers. Answers are in the
    clips' dtype.

    Args:
        topology: skeleton, by name, by itself, or only its number of joints.
        channels: "xyz", "xy", or either with a detector's confidence, "c".
        config: sizes; the released ones by default.
        skip_empty: people who are all zeros (or not in `people`) are not computed and their answers are zeros; the
            others' stay the same. Under torch.compile and torch.export they are computed and then zeroed. False: zeros
            are a pose like any other, as in the release.
        resample: clips of other lengths than multiples of 8 frames are interpolated to the nearest one, instead of
            refused.
    """

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

    @classmethod
    def from_pretrained(
        cls,
        repo_or_dir: str | Path,
        subfolder: str | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        **options: Any,
    ) -> Self:
        """The encoder in an encoder or run folder, a .pth file or a Hugging Face repository ("owner/name"), in eval
        mode. Nothing in any of them is executed.

        Weights are float32, whatever they were saved in.
        options: of the constructor: skip_empty and resample, which no checkpoint keeps; topology, channels and config
            instead of the checkpoint's, where it does not say or guesses (see `read_checkpoint`).
        Raises: UserError when there is nothing of that name, no network, or when tensors are missing, extra or of
            another shape (all named); TypeError for other options.
        """
        checkpoint = read_checkpoint(repo_or_dir, subfolder, revision, cache_dir, token)
        if given := sorted(options.keys() & {"topology", "channels", "config"}):
            checkpoint = replace(checkpoint, described_by=f"the given {' and '.join(given)}")
        encoder = cls._described(checkpoint.about, **options)
        encoder.load_checkpoint(checkpoint)
        return encoder.eval()

    @classmethod
    def _described(cls, about: Description, **options: Any) -> Self:
        return cls(**{"topology": about.topology, "channels": about.channels, "config": about.config, **options})

    def load_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Load all weights of `checkpoint`; a classifier's head is left out.

        Raises: UserError as `from_pretrained`.
        """
        checkpoint.fill(self, {})

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors in the public format, and slim_fast.json with the skeleton.

        Raises: UserError when the folder cannot be written.
        """
        save_encoder(self, Path(folder), self.topology, self.channel_names, self._more())

    def _more(self) -> Mapping[str, Any]:
        """What a subclass adds to slim_fast.json."""
        return {}

    def push_to_hub(
        self, repo_id: str, *, token: str | bool | None = None, private: bool | None = None, **options: Any
    ) -> str:
        """Save to the Hugging Face repository `repo_id`, made when there is none; returns the commit's address.

        options: of huggingface_hub's upload_folder (commit_message, revision, ...).
        Raises: UserError without huggingface_hub, or when the hub refuses.
        """
        from slim_fast.interop.upload import upload

        return upload(self.save_pretrained, repo_id, token, private, options)

    def to_skeleton(self, topology: Topology | str, channels: str | None = None) -> Self:
        """The same weights for another skeleton, and for other channels ("xyz", "xy", either with "c").

        Joints are told by their names (`slim_fast.skeletons.correspondence`): each takes the embedding of the same
        joint or the mean of related ones. Axes are turned so that up stays up, and left left where the format is known
        (`slim_fast.interop.transfer.axis_map`); a coordinate that the new clips lack counts as 0 and a confidence as 1;
        a channel that the weights lack is not looked at. Units stay, and so should the origin: clips are best centred
        on the mean of joints that `correspondence(...).origin` weighs, where the old skeleton's centre was.
        Raises: UserError for nameless joints, when no name is common, and for unknown channels.
        Warns: of joints whose names are not known, which get their neighbours' embeddings.
        """
        return to_skeleton(self, topology, channels)

    def optimize(self, dtype: torch.dtype | Literal["auto"] | None = "auto", cuda_graphs: bool = False) -> Self:
        """A copy for inference alone, as fast as this machine allows.

        dtype: of its weights; "auto": bfloat16 where the hardware multiplies it natively, else float32; None: as it
        is. Clips may stay in float32. On a CPU the copy can't be trained, saved or moved. cuda_graphs: each shape of
        clips is captured once and replayed; empty people are then computed and zeroed, because shapes are fixed.
        Raises: UserError for cuda_graphs without CUDA.
        """
        device = self.pos_embed.device
        if cuda_graphs and device.type != "cuda":
            raise UserError(f"optimize: cuda_graphs=True needs the encoder on CUDA, and it is on {device}.")
        if isinstance(dtype, str):
            if dtype != "auto":
                raise UserError(f'optimize: dtype={dtype!r}; use torch.float32, torch.bfloat16 or "auto".')
            dtype = choose_dtype("auto", device)
        fast = freeze(self, dtype)
        fast._graphs = Graphs() if cuda_graphs else None
        return fast

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if self._graphs is not None:
            self._graphs = Graphs()  # captured ones read the weights where they were
        return super()._apply(fn, recurse)

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
        ((cls,),) = self._answers([x], [masks], [people], "cls")  # type: ignore[list-item]
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
        raw, normed = self._answers(x, hidden, there, "last")
        return [
            {
                "x_norm_clstoken": tokens[:, 0],
                "x_norm_regtokens": tokens[:, 1 : self._prefix],
                "x_norm_patchtokens": tokens[:, self._prefix :],
                "x_prenorm": before,
                "masks": mask,
                "people": self._present(clips, given),
            }
            for clips, tokens, before, mask, given in zip(x, normed, raw, hidden, there, strict=True)
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
        layers = [tokens for (tokens,) in self._answers([x], [None], [people], blocks, norm)]
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
        self,
        x: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        people: Sequence[Tensor | None],
        wanted: Sequence[int] | Literal["last", "cls"],
        norm: bool = True,
    ) -> list[list[Tensor]]:
        """Whole sequences (B * M, tokens, D) of the blocks `wanted`, as `Encoder.layers`; "last": of the last block,
        before and after the final LayerNorm; "cls": only its CLS (B * M, D).
        """
        groups = [self._folded(*group) for group in zip(x, masks, people, strict=True)]
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
        return [
            [group.spread(tokens).to(whole.dtype) for group, tokens, whole in zip(groups, layer, x, strict=True)]
            for layer in answers
        ]

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
        if people is not None or self.skip_empty:
            people = self._present(x, people)
        # Coordinates have more digits than half precision keeps: the embedding takes them as they are.
        exact = torch.promote_types(weights.dtype, torch.float32)
        skip = self._graphs is None and not torch.compiler.is_compiling()
        return fold(x.to(exact), masks, people, skip)

    def _present(self, x: Tensor, people: Tensor | None) -> Tensor:
        """(B, M) bool: who counts in clips x (B, C, T, V, M)."""
        if people is not None:
            return people
        if self.skip_empty:
            return present_people(x, self.channel_names)
        return torch.ones(len(x), x.shape[4], dtype=torch.bool, device=x.device)
