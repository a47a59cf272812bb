"""Reading pretrained weights: from a folder, a run, a weights file or a Hugging Face repository."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slim_fast.errors import UserError, describe_os_error
from slim_fast.interop.checkpoints.heads import split_head
from slim_fast.interop.checkpoints.hub import download, split_name
from slim_fast.interop.checkpoints.model_card import TRAINING, read_training_record
from slim_fast.interop.checkpoints.shipped import shipped_folder
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.model.files import (
    CHANNEL_NAMES,
    CONFIG,
    WEIGHTS,
    EncoderDescription,
    default_topology,
    encoder_folder,
    load_tensors,
    read_description,
    read_weights,
)
from slim_fast.model.torch_files import read_tensors
from slim_fast.training.teacher import load_unfinished_teacher

PUBLIC_HEAD_WIDTH = 32
# prefixes of DistributedDataParallel and torch.compile
_WRAPPERS = re.compile(r"(^|(?<=\.))(module|_orig_mod)\.")
_SIZED = ("patch_embed.proj.weight", "pos_embed", "register_tokens", "blocks.0.mlp.w3.weight")


@dataclass(frozen=True)
class Checkpoint:
    """Weights under their public names, and the encoder that they fit."""

    about: EncoderDescription
    weights: Mapping[str, Tensor]
    source: Path
    described_by: str = f"its {CONFIG}"
    """Source of `about`, for messages."""
    heads_warning: str = ""
    """What to warn of when the number of attention heads had to be guessed."""

    def load_into(self, module: nn.Module, head: Mapping[str, Tensor]) -> None:
        """Load the encoder's weights into `module`, in its dtype, and `head` for the checkpoint's.

        Raises: UserError naming every tensor that is missing, extra, of another shape or not
        floating-point.
        """
        backbone = {
            name: tensor for name, tensor in self.weights.items() if not name.startswith("head.")
        }
        load_tensors(module, {**backbone, **head}, self.source, self.described_by)


def read_checkpoint(
    source: str | Path | Checkpoint,
    subfolder: str | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    more: Sequence[str] = (),
) -> Checkpoint:
    """Read an encoder's or a run's folder, a weights file or a Hugging Face repository.

    "slim_fast/NAME" is an encoder that comes with the package (`find_shipped`); a repository's
    subfolder may be part of its name, "owner/name/subfolder".

    A folder or repository holds config.json and model.safetensors, or one .pth file. A .pth holds
    {"teacher": {"backbone.<name>": tensor}}, the tensors themselves, or what the trainers of MAMP,
    CTR-GCN, SkateFormer, PYSKL, mmaction2 and timm save, with their heads (`split_head`); only its
    tensors are read. Without a config.json beside it, sizes are inferred from the tensors:
    attention heads have 32 features, as in all public checkpoints, and three channels are xyz. An
    unfinished run gives the newest checkpoint's teacher, with a warning.

    revision, cache_dir and token are of repositories, and so is more, patterns of other files to
    download.
    Raises: UserError when nothing of that name is found, without network, or for a file that is
    damaged or would run code.
    """
    if isinstance(source, Checkpoint):
        return source
    path = Path(source)
    try:
        if path.is_file():
            return _read(path)
        return _read_folder(find_folder(source, subfolder, revision, cache_dir, token, more))
    except PermissionError as error:
        raise UserError(f"{describe_os_error(error)}: mend its permissions.") from error


def find_folder(
    source: str | Path,
    subfolder: str | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    more: Sequence[str] = (),
) -> Path:
    """The local folder that `source` names, after a download if need be. See `read_checkpoint`."""
    inside, path = (subfolder or "").strip("/"), Path(source)
    if not path.is_dir() and not (path := shipped_folder(str(source)) or path).is_dir():
        name, inside = split_name(str(source), subfolder)
        path = download(name, inside, revision, cache_dir, token, more)
    return path / inside


def _read_folder(folder: Path) -> Checkpoint:
    if teacher := load_unfinished_teacher(folder):
        state = f"this is its {teacher.name} after step {teacher.step} of {teacher.steps}"
        warnings.warn(f"The run in {folder} is not finished: {state}.", stacklevel=4)
        return Checkpoint(teacher.about, teacher.weights, teacher.path, "its run")
    return _read(_weights_file(encoder_folder(folder)))


def _weights_file(folder: Path) -> Path:
    if (folder / WEIGHTS).exists():
        return folder / WEIGHTS
    found = sorted(folder.glob("*.pth"))
    if len(found) != 1:
        others = (
            f"several .pth files ({', '.join(p.name for p in found)}): give one"
            if found
            else "no .pth file"
        )
        raise UserError(f"{folder} is no encoder folder: it holds no {WEIGHTS} and {others}.")
    return found[0]


def _read(path: Path) -> Checkpoint:
    try:
        path.open("rb").close()  # a file without permission is not damaged
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    has_config = (path.parent / CONFIG).exists()
    if path.suffix == ".safetensors":
        about = read_description(path.parent)
        if TRAINING not in about.more and (record := read_training_record(path.parent)):
            about = replace(about, more={**about.more, TRAINING: record})
        return Checkpoint(about, read_weights(path, about.config), path)
    weights, head = split_head(_tensors(read_tensors(path)))
    if not weights.keys() & set(_SIZED):
        raise UserError(
            f'{path} holds no encoder: expected {{"teacher": {{"backbone.<name>": tensor}}}} or '
            "the tensors themselves."
        )
    about = read_description(path.parent) if has_config else _infer_sizes(weights, path)
    about = replace(about, more={**about.more, **head})
    if has_config:
        return Checkpoint(about, weights, path)
    config = about.config
    heads_warning = (
        f"{path} does not say how many attention heads it was trained with; {config.heads} of "
        f"{PUBLIC_HEAD_WIDTH} features are taken, as in all public ones. If there were others, "
        f"pass config=EncoderConfig(width={config.width}, depth={config.depth}, heads=...), or "
        f"put its {CONFIG} beside it."
    )
    return Checkpoint(about, weights, path, "the sizes of its own tensors", heads_warning)


def _tensors(content: Any) -> dict[str, Tensor]:
    """The tensors by name, without the prefixes of DistributedDataParallel and torch.compile."""
    for key in ("teacher", "model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        return {}
    return {
        _WRAPPERS.sub("", str(name)): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }


def _infer_sizes(weights: Mapping[str, Tensor], path: Path) -> EncoderDescription:
    depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    if not weights.keys() >= set(_SIZED):
        with torch.device("meta"):
            expected = Encoder(EncoderConfig(depth=max(1, depth))).state_dict().keys()
        missing = "; ".join(f"{name} is missing" for name in sorted(expected - weights.keys()))
        raise UserError(f"{path} holds no whole encoder: {missing}.")
    try:
        width, channels, patch, _ = weights["patch_embed.proj.weight"].shape
        joints = weights["pos_embed"].shape[1] - 1
        registers = weights["register_tokens"].shape[1]
        hidden = weights["blocks.0.mlp.w3.weight"].shape[1]
        names = CHANNEL_NAMES[channels]
    except (KeyError, ValueError, IndexError) as error:
        shapes = ", ".join(f"{name} {tuple(weights[name].shape)}" for name in _SIZED)
        raise UserError(
            f"{path} holds no encoder that is known here; its sizes: {shapes}."
        ) from error
    config = EncoderConfig(width, depth, max(1, width // PUBLIC_HEAD_WIDTH), 4.0, registers, patch)
    if config.hidden != hidden:
        config = replace(config, ffn_ratio=hidden * 1.5 / width)
    return EncoderDescription(config, default_topology(joints), names, {})
