"""SLiMEncoder: load, save, transfer and optimise the encoder, named as in SLiM's release."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import Self

from slim_fast.errors import UserError
from slim_fast.interop.aliases import accept_aliases
from slim_fast.interop.checkpoints.hub import upload
from slim_fast.interop.checkpoints.model_card import TRAINING, write_model_card
from slim_fast.interop.checkpoints.read import Checkpoint, read_checkpoint
from slim_fast.interop.cuda_graphs import CudaGraphs
from slim_fast.interop.people_encoder import PeopleEncoder
from slim_fast.interop.runtimes import check_choices, optimize_with
from slim_fast.interop.transfer import to_skeleton
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.files import (
    EncoderDescription,
    parse_description,
    read_description,
    read_json,
    save_encoder,
)
from slim_fast.model.frozen import freeze
from slim_fast.skeletons import Topology
from slim_fast.training.machine import choose_dtype


class SLiMEncoder(PeopleEncoder):
    """SLiM's encoder (paper section 3.1) with the interface of the authors' release.

    Clips are (B, C, T, V, M) floating-point: coordinates (metres, the centre joint of the first
    frame at the origin), frames, joints, people. People are folded into the batch: person m of clip
    b is row b * M + m of the outputs, which have the clips' dtype.

    Args:
        topology: skeleton, by name, by itself, or only its number of joints; by default the
            config's, or "ntu-25".
        channels: "xyz", "xy", or either with a detector's confidence, "c" (joints of confidence 0
            are read as zeros); by default the config's, or "xyz".
        config: sizes, as EncoderConfig or as the fields of a config.json; by default the released
            ones.
        skip_empty: people whose joints do not spread
            (`slim_fast.interop.clips.people.find_present_people`: zeros, or one point), or who are
            not in `people`, are not computed and their outputs are zeros; the others' stay the
            same. Under torch.compile and torch.export they are computed and then zeroed. False:
            zeros are a pose like any other, as in the release.
        resample: clips of other lengths than multiples of 8 frames are interpolated to the nearest
            one, instead of refused.
    """

    @classmethod
    @accept_aliases(repo_or_dir="repo_id_or_path")
    def from_pretrained(
        cls,
        repo_id_or_path: str | Path | Checkpoint,
        subfolder: str | None = None,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        **options: Any,
    ) -> Self:
        """Load an encoder in eval mode, its weights in float32; no code in the files is executed.

        Args:
            repo_id_or_path: a run's or an encoder's folder, a .pth file, a Hugging Face
                repository ("owner/name"), or an encoder that comes with the package
                ("slim_fast/synthetic-small").
            subfolder: of the folder or repository.
            revision, cache_dir, token: of the repository, see huggingface_hub.
            options: of the constructor: skip_empty and resample, which checkpoints do not store;
                topology, channels and config where the checkpoint lacks them or they were guessed
                (see `read_checkpoint`).

        Raises: UserError when nothing of that name is found, without network, or when tensors are
        missing, extra or of another shape (all named); TypeError for other options.
        Warns: when a .pth file does not say how many attention heads it has.
        """
        return cls._from_checkpoint(
            read_checkpoint(repo_id_or_path, subfolder, revision, cache_dir, token), **options
        ).eval()

    @classmethod
    def _from_checkpoint(cls, checkpoint: Checkpoint, **options: Any) -> Self:
        if given := sorted(options.keys() & {"topology", "channels", "config"}):
            checkpoint = replace(checkpoint, described_by=f"the given {' and '.join(given)}")
        if checkpoint.heads_warning and "config" not in given:
            warnings.warn(checkpoint.heads_warning, stacklevel=4)
        encoder = cls._from_description(checkpoint.about, **options)
        trained, given_heads = checkpoint.about.config.heads, encoder.config.heads
        if trained != given_heads and not checkpoint.heads_warning:
            raise UserError(
                f"{checkpoint.source} was trained with {trained} attention heads, not "
                f"{given_heads}: leave config out."
            )
        encoder.load_checkpoint(checkpoint)
        return encoder

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any] | EncoderConfig | str | Path, **options: Any
    ) -> Self:
        """Make an untrained encoder.

        config: the fields of a config.json, that file or its folder, or an EncoderConfig.
        options: of the constructor.
        Raises: UserError when `config` describes no encoder.
        """
        if isinstance(config, str | Path):
            path = Path(config)
            about = (
                read_description(path)
                if path.is_dir()
                else parse_description(read_json(path), {}, path)
            )
            return cls._from_description(about, **options)
        return cls(config=config, **options)

    @classmethod
    def _from_description(cls, about: EncoderDescription, **options: Any) -> Self:
        own = {"topology": about.topology, "channels": about.channels, "config": about.config}
        return cls(**own | options)

    def load_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Load all weights of `checkpoint` but a head. Raises: UserError as `from_pretrained`."""
        self.training_record = checkpoint.about.more.get(TRAINING)
        checkpoint.load_into(self, {})

    @accept_aliases(folder="save_directory")
    def save_pretrained(
        self, save_directory: str | Path, config: Mapping[str, Any] | None = None
    ) -> None:
        """Write config.json and model.safetensors, slim_fast.json, and README.md, a model card.

        The first two are in the public format; a README.md that somebody else wrote stays.
        config: more fields for config.json.
        Raises: UserError when the folder cannot be written, and for fields that contradict the
        encoder.
        """
        folder, extra = Path(save_directory), self._extra_fields()
        save_encoder(self, folder, self.topology, self.channel_names, extra, config)
        write_model_card(self, folder, extra)

    def _extra_fields(self) -> Mapping[str, Any]:
        """Fields of slim_fast.json beside skeleton and channels."""
        return {} if self.training_record is None else {TRAINING: self.training_record}

    def push_to_hub(
        self,
        repo_id: str,
        *,
        token: str | bool | None = None,
        private: bool | None = None,
        **options: Any,
    ) -> str:
        """Save to a Hugging Face repository, made if needed; returns the commit's address.

        A README.md that the repository has stays.
        options: of huggingface_hub's upload_folder (commit_message, revision, ...).
        Raises: UserError without huggingface_hub, or when the hub refuses.
        """
        return upload(self.save_pretrained, repo_id, token, private, options)

    def to_skeleton(self, topology: Topology | str, channels: str | None = None) -> Self:
        """Transfer the weights to another skeleton and to other channels (xyz, xy, xyzc, xyc).

        Joints are matched by name (`slim_fast.skeletons.correspondence`): each takes the position
        embedding of the same joint or the mean of related ones. Axes are rotated so that up stays
        up, and left left where the format is known (`slim_fast.interop.transfer.axis_map`). A
        coordinate that the new clips lack counts as 0 and a confidence as 1; a channel that the
        weights lack is ignored. Units stay, and so should the origin: centre clips on the weighted
        mean of joints in `match_joints(...).origin`, where the old skeleton's centre was.

        Raises: UserError for joints without names, when no name is common, and for unknown
        channels.
        Warns: of unknown joint names, which get their neighbours' embeddings.
        """
        return to_skeleton(self, topology, channels)

    def optimize(
        self,
        dtype: torch.dtype | Literal["auto"] | None = "auto",
        cuda_graphs: bool = False,
        *,
        backend: Literal["auto", "torch", "openvino", "onnxruntime"] = "torch",
        precision: Literal["auto", "fp32", "bf16", "int8"] = "auto",
        clips: int | Tensor = 1,
        calibration: Tensor | None = None,
    ) -> Self:
        """Make a copy for inference, as fast as this machine allows.

        Args:
            backend: what computes the blocks. "openvino" and "onnxruntime" run on the CPU, on as
                many threads as PyTorch has now, and answer what `forward` and `forward_features`
                compute without masks; masks and `get_intermediate_layers` are left to PyTorch.
                Their answers are compared with float32's first. "auto": those that are installed,
                and PyTorch, are timed once on `clips`, and CLS alone and all tokens each get the
                fastest; what was measured is logged, and `answered_by` has what was chosen.
            precision: of the matmuls; "auto": bf16 where the hardware multiplies it natively and
                the backend has it, else fp32. int8: onnxruntime's, never by itself.
            calibration: for int8: clips (B, C, T, V, M) such as will come, of their length; a
                hundred will do. Activations are rounded to the range that they have in these, and a
                clip's answer does not depend on the others of its call; without them, to their
                range in each call.
            clips: for backend="auto": how many clips of two people a call will have, or such clips
                (B, C, T, V, M).
            dtype: of PyTorch's matmuls, in place of `precision`; "auto": as there; None: the
                weights'. Clips may stay in float32.
            cuda_graphs: capture each shape of clips once and replay it. Absent people are then
                computed and zeroed, because shapes are fixed.

        On a CPU the copy can't be trained, saved or moved.
        Raises: UserError for a backend that is not installed, lacks the precision, or answers
        otherwise than float32; for cuda_graphs without CUDA or with hooks, and as `freeze`.
        """
        check_choices(backend, precision, dtype, cuda_graphs, calibration)
        if backend != "torch":
            return optimize_with(self, backend, precision, clips, calibration)
        if cuda_graphs and any(m._forward_hooks or m._forward_pre_hooks for m in self.modules()):
            raise UserError(
                "optimize: cuda_graphs=True replays what was captured and calls no hooks: remove "
                "them first."
            )
        device = self.pos_embed.device
        if cuda_graphs and device.type != "cuda":
            raise UserError(
                f"optimize: cuda_graphs=True needs the encoder on CUDA, and it is on {device}."
            )
        fast = freeze(self, choose_dtype(precision, device) if isinstance(dtype, str) else dtype)
        fast._graphs = CudaGraphs() if cuda_graphs else None
        return fast

    @property
    def answered_by(self) -> dict[str, str]:
        """Which runtime, in which precision, answers for "cls" alone and for the "last" block, of
        a copy that `optimize` made with a backend; empty: PyTorch does.
        """
        return (
            {}
            if self._runtimes is None
            else {str(kind): name for kind, name in self._runtimes.names.items()}
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if self._graphs is not None:
            self._graphs = CudaGraphs()  # captured graphs read the weights' old memory
        return super()._apply(fn, recurse)
