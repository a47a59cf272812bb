"""Where pretrained weights come from: a local folder or run, a .pth file, a Hugging Face repository."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slim_fast.errors import UserError
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.files import (
    CHANNEL_NAMES,
    CONFIG,
    MORE,
    WEIGHTS,
    Description,
    describe,
    encoder_folder,
    known_topology,
    read_weights,
)

PUBLIC_HEAD_WIDTH = 32
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class Checkpoint:
    """Weights under their public names, and what they are made for."""

    about: Description
    weights: Mapping[str, Tensor]
    source: Path


def read_checkpoint(
    source: str | Path,
    subfolder: str | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> Checkpoint:
    """Read an encoder folder (or a finished run's folder), a .pth file, or a Hugging Face repository ("owner/name").

    A .pth holds {"teacher": {"backbone.<name>": tensor}} or the tensors themselves; its sizes are those of its tensors
    (heads: of 32 features, as all public ones) unless a config.json lies beside it.
    Raises: UserError when there is nothing of that name, no network, or a file that is damaged or would run code.
    """
    path = Path(source)
    if path.is_file():
        return _read_pth(path)
    if not path.is_dir():
        path = download(str(source), subfolder, revision, cache_dir, token)
    if subfolder:
        path = path / subfolder
    path = encoder_folder(path)
    if not (path / WEIGHTS).exists() and len(found := sorted(path.glob("*.pth"))) == 1:
        return _read_pth(found[0])
    return Checkpoint(describe(path), read_weights(path / WEIGHTS), path / WEIGHTS)


def download(
    repository: str,
    subfolder: str | None,
    revision: str | None,
    cache_dir: str | Path | None,
    token: str | bool | None,
) -> Path:
    """The local folder of a Hugging Face repository's snapshot.

    Raises: UserError for a name that is none, without huggingface_hub, without network or for an unknown repository.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise UserError(f"There is no folder or file {repository}, and it is no Hugging Face name (owner/name) either.")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(
            f"There is no folder or file {repository}; to look it up on Hugging Face: pip install huggingface_hub."
        ) from error
    names = [f"{subfolder}/{name}" if subfolder else name for name in (CONFIG, MORE, WEIGHTS, "*.pth")]
    try:
        return Path(
            snapshot_download(repository, revision=revision, cache_dir=cache_dir, token=token, allow_patterns=names)
        )
    except Exception as error:  # huggingface_hub's own, its HTTP library's, and OSErrors
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"There is no folder or file {repository}, and Hugging Face did not give it ({reason}). Check the name, "
            "the revision, the token and the network, or give the path of a local folder."
        ) from error


def _read_pth(path: Path) -> Checkpoint:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and would run code when loaded, so it is not: save its tensors alone "
            "(torch.save of a dict of tensors) where you trust it."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}); copy it again.") from error
    weights = _backbone(content)
    if not weights:
        raise UserError(
            f'{path} holds no encoder: expected {{"teacher": {{"backbone.<name>": tensor}}}} or the tensors themselves.'
        )
    beside = path.parent / CONFIG
    return Checkpoint(describe(path.parent) if beside.exists() else _sizes(weights, path), weights, path)


def _backbone(content: Any) -> dict[str, Tensor]:
    """The encoder's tensors, without the names that training wrapped around them; heads and counters left out."""
    for key in ("teacher", "model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        return {}
    tensors = {str(k).removeprefix("module."): v for k, v in content.items() if isinstance(v, Tensor)}
    backbone = {k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")}
    return backbone or ({} if "cls_token" not in tensors else tensors)


def _sizes(weights: Mapping[str, Tensor], path: Path) -> Description:
    try:
        width, channels, patch, _ = weights["patch_embed.proj.weight"].shape
        joints = weights["pos_embed"].shape[1] - 1
        registers = weights["register_tokens"].shape[1]
        hidden = weights["blocks.0.mlp.w3.weight"].shape[1]
        depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
        names = CHANNEL_NAMES[channels]
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(f"{path} holds no encoder that is known here: {error!r} is missing or wrong.") from error
    config = EncoderConfig(width, depth, max(1, width // PUBLIC_HEAD_WIDTH), 4.0, registers, patch)
    if config.hidden != hidden:
        config = replace(config, ffn_ratio=hidden * 1.5 / width)
    return Description(config, known_topology(joints), names, {})
