"""Where pretrained weights come from: a local folder or run, a weights file, a Hugging Face repository."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slim_fast.errors import UserError
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.model.files import (
    CHANNEL_NAMES,
    CONFIG,
    MORE,
    WEIGHTS,
    Description,
    describe,
    encoder_folder,
    fill,
    known_topology,
    read_weights,
)

PUBLIC_HEAD_WIDTH = 32
_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_WRAPPERS = re.compile(r"(^|(?<=\.))(module|_orig_mod)\.")  # of DistributedDataParallel and torch.compile
_SIZED = ("patch_embed.proj.weight", "pos_embed", "register_tokens", "blocks.0.mlp.w3.weight")


@dataclass(frozen=True)
class Checkpoint:
    """Weights under their public names, and what they are made for."""

    about: Description
    weights: Mapping[str, Tensor]
    source: Path
    described_by: str = f"its {CONFIG}"
    """Where `about` comes from."""

    def fill(self, module: nn.Module, head: Mapping[str, Tensor]) -> None:
        """Load the encoder's weights, and `head` in place of the checkpoint's, into `module`, in its dtype.

        Raises: UserError naming every tensor that is missing, extra, of another shape or not floating-point.
        """
        backbone = {name: tensor for name, tensor in self.weights.items() if not name.startswith("head.")}
        fill(module, {**backbone, **head}, self.source, self.described_by)


def read_checkpoint(
    source: str | Path,
    subfolder: str | None = None,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
) -> Checkpoint:
    """Read an encoder folder (or a finished run's folder), a weights file, or a Hugging Face repository ("owner/name").

    A folder or repository holds config.json and model.safetensors, or one .pth file. A .pth holds {"teacher":
    {"backbone.<name>": tensor}} or the tensors themselves; where no config.json lies beside it, its sizes are those of
    its tensors, heads of 32 features, as in all public ones, and three channels are xyz. revision, cache_dir and token
    are of repositories.
    Raises: UserError when there is nothing of that name, no network, or a file that is damaged or would run code.
    """
    path = Path(source)
    if path.is_file():
        return _read(path)
    subfolder = (subfolder or "").strip("/")
    if not path.is_dir():
        path = download(str(source), subfolder, revision, cache_dir, token)
    return _read(_weights_file(encoder_folder(path / subfolder)))


def download(
    repository: str,
    subfolder: str,
    revision: str | None,
    cache_dir: str | Path | None,
    token: str | bool | None,
) -> Path:
    """The local folder of a Hugging Face repository's snapshot, with what an encoder needs of it.

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
    inside = f"{subfolder}/" if subfolder else ""
    wanted = [inside + name for name in (CONFIG, MORE, WEIGHTS)]
    options: dict[str, Any] = {"revision": revision, "cache_dir": cache_dir, "token": token}
    try:
        folder = Path(snapshot_download(repository, allow_patterns=wanted, **options))
        if not (folder / inside / WEIGHTS).exists():  # a star passes slashes
            pth, deeper = f"{inside}*.pth", f"{inside}*/*"
            folder = Path(snapshot_download(repository, allow_patterns=[pth], ignore_patterns=[deeper], **options))
    except Exception as error:  # huggingface_hub's own, its HTTP library's, and OSErrors
        raise UserError(
            f"There is no folder or file {repository}, and Hugging Face did not give it ({first_line(error)}). Check "
            "the name, the revision, the token and the network, or give the path of a local folder."
        ) from error
    return folder


def first_line(error: Exception) -> str:
    """What an exception says, in one line; its name where it says nothing."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def _weights_file(folder: Path) -> Path:
    if (folder / WEIGHTS).exists():
        return folder / WEIGHTS
    found = sorted(folder.glob("*.pth"))
    if len(found) != 1:
        others = f"several .pth files ({', '.join(p.name for p in found)}): give one" if found else "no .pth file"
        raise UserError(f"{folder} is no encoder folder: it holds no {WEIGHTS} and {others}.")
    return found[0]


def _read(path: Path) -> Checkpoint:
    if path.suffix == ".safetensors":
        return Checkpoint(describe(path.parent), read_weights(path), path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever its unpickler stumbles over
        if unknown := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path} holds more than tensors, {unknown[1]}, and would run code when loaded, so it is not: save its "
                "tensors alone (torch.save of a dict of tensors) where you trust it."
            ) from error
        raise UserError(f"{path} cannot be read: it is damaged, or nothing that torch.save wrote.") from error
    weights = _backbone(content)
    if not weights.keys() & set(_SIZED):
        raise UserError(
            f'{path} holds no encoder: expected {{"teacher": {{"backbone.<name>": tensor}}}} or the tensors themselves.'
        )
    if (path.parent / CONFIG).exists():
        return Checkpoint(describe(path.parent), weights, path)
    return Checkpoint(_sizes(weights, path), weights, path, "the sizes of its own tensors")


def _backbone(content: Any) -> dict[str, Tensor]:
    """The encoder's tensors, without the names that training wrapped around them; other heads than a classifier's and
    counters are left out.
    """
    for key in ("teacher", "model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        return {}
    tensors = {_WRAPPERS.sub("", str(name)): value for name, value in content.items() if isinstance(value, Tensor)}
    return {k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")} or tensors


def _sizes(weights: Mapping[str, Tensor], path: Path) -> Description:
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
        raise UserError(f"{path} holds no encoder that is known here; its sizes: {shapes}.") from error
    config = EncoderConfig(width, depth, max(1, width // PUBLIC_HEAD_WIDTH), 4.0, registers, patch)
    if config.hidden != hidden:
        config = replace(config, ffn_ratio=hidden * 1.5 / width)
    classes = {"num_classes": len(weights["head.weight"])} if "head.weight" in weights else {}
    return Description(config, known_topology(joints), names, classes)
