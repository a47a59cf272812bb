"""SLiM's encoder as other code bases know it: the release's method names, people folded in, empty ones skipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import Self

from slim_fast.errors import UserError
from slim_fast.interop.checkpoint import Checkpoint, read_checkpoint
from slim_fast.interop.features import PeopleEncoder
from slim_fast.interop.graphs import Graphs
from slim_fast.interop.transfer import to_skeleton
from slim_fast.model.files import Description, save_encoder
from slim_fast.model.frozen import freeze
from slim_fast.skeletons import Topology
from slim_fast.training.machine import choose_dtype


class SLiMEncoder(PeopleEncoder):
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
        return cls._made_of(read_checkpoint(repo_or_dir, subfolder, revision, cache_dir, token), **options).eval()

    @classmethod
    def _made_of(cls, checkpoint: Checkpoint, **options: Any) -> Self:
        if given := sorted(options.keys() & {"topology", "channels", "config"}):
            checkpoint = replace(checkpoint, described_by=f"the given {' and '.join(given)}")
        encoder = cls._described(checkpoint.about, **options)
        encoder.load_checkpoint(checkpoint)
        return encoder

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

        dtype: of its blocks' matrix products; "auto": bfloat16 where the hardware multiplies it natively, else float32;
        None: as they are. Clips may stay in float32. On a CPU the copy can't be trained, saved or moved.
        cuda_graphs: each shape of clips is captured once and replayed; empty people are then computed and zeroed,
        because shapes are fixed.
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
