"""Encoders on disk: config.json and model.safetensors, in the public checkpoints' format, and slim_fast.json with what
that format has no words for.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from slim_fast.data.clips import CHANNELS
from slim_fast.errors import UserError
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.skeletons import Topology, get_topology

CONFIG, WEIGHTS, MORE = "config.json", "model.safetensors", "slim_fast.json"
# `arch` names a size in the public format; other sizes are written out.
_SIZES: dict[str, dict[str, Any]] = {"vit_tiny": {"embed_dim": 256, "depth": 8, "num_heads": 8, "mlp_ratio": 4.0}}
CHANNEL_NAMES = {2: "xy", 3: "xyz", 4: "xyzc"}


@dataclass(frozen=True)
class Description:
    """What an encoder is made for. `more`: what a classifier adds."""

    config: EncoderConfig
    topology: Topology | int
    """Or the number of joints, when nobody wrote down which they are."""
    channels: str
    more: Mapping[str, Any]

    @property
    def joints(self) -> int:
        return self.topology if isinstance(self.topology, int) else self.topology.num_joints


def save_encoder(
    encoder: Encoder, folder: Path, topology: Topology | int, channels: str, more: Mapping[str, Any] | None = None
) -> None:
    """Write `encoder` to `folder`; each file is whole or not there.

    Raises: UserError when the folder cannot be written.
    """
    config = encoder.config
    sizes = {
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": config.ffn_ratio,
    }
    fields = {
        "arch": "vit_tiny",
        "img_size": [64, encoder.joints],
        "patch_size": [config.patch_frames, 1],
        "in_chans": encoder.channels,
        "num_register_tokens": config.registers,
        "ffn_layer": "swiglufused",
        "block_chunks": 0,
        "qkv_bias": True,
        "proj_bias": True,
        "ffn_bias": True,
        "init_values": 0.0,
        **({} if sizes == _SIZES["vit_tiny"] else sizes),
    }
    known = {} if isinstance(topology, int) else {"topology": topology.to_dict()}
    ours = {**known, "channels": channels, "attention": config.attention, **(more or {})}
    tensors = {name: t.detach().cpu().contiguous() for name, t in encoder.state_dict().items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / (WEIGHTS + ".tmp")
        save_file(tensors, weights)
        os.replace(weights, folder / WEIGHTS)
        for name, content in ((MORE, ours), (CONFIG, fields)):
            text = folder / (name + ".tmp")
            text.write_text(json.dumps(content, indent=1), encoding="utf-8")
            os.replace(text, folder / name)
    except (OSError, SafetensorError) as error:
        raise UserError(f"Could not write the encoder to {folder}: {error}.") from error


def encoder_folder(run: Path) -> Path:
    """The encoder's folder of a finished run, or `run` itself.

    Raises: UserError for a run that is not finished.
    """
    if (run / "encoder").is_dir():
        return run / "encoder"
    if (run / "checkpoints").is_dir():
        raise UserError(f"The run in {run} is not finished; give its pretrain command again to finish it.")
    return run


def load_encoder(folder: Path, device: torch.device | str = "cpu") -> Encoder:
    """Read an encoder that `save_encoder` or the public release wrote.

    Raises: UserError when a file is missing or damaged, or when tensors are missing, extra or of another shape (all
    named).
    """
    about = describe(folder)
    encoder = Encoder(about.config, about.joints, len(about.channels))
    fill(encoder, read_weights(folder / WEIGHTS), folder / WEIGHTS)
    return encoder.to(device)


def describe(folder: Path) -> Description:
    """What config.json and, where there is one, slim_fast.json say.

    Raises: UserError when they are missing or damaged, or describe no encoder.
    """
    fields = read_json(folder / CONFIG)
    fields = {**_SIZES.get(str(fields.get("arch", "")), {}), **fields}
    ours = read_json(folder / MORE) if (folder / MORE).exists() else {}
    try:
        config = EncoderConfig(
            width=int(fields["embed_dim"]),
            depth=int(fields["depth"]),
            heads=int(fields["num_heads"]),
            ffn_ratio=float(fields["mlp_ratio"]),
            registers=int(fields["num_register_tokens"]),
            patch_frames=int(fields["patch_size"][0]),
            attention=ours.pop("attention", "all"),
        )
        joints, channels = int(fields["img_size"][1]), CHANNEL_NAMES[int(fields["in_chans"])]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise UserError(f"{folder / CONFIG} does not describe an encoder: {error!r} is missing or wrong.") from error
    described = ours.pop("topology", None)
    topology = known_topology(joints) if described is None else Topology.from_dict(described)
    about = Description(config, topology, ours.pop("channels", channels), ours)
    if about.channels not in CHANNELS or (about.joints, len(about.channels)) != (joints, len(channels)):
        raise UserError(
            f"{folder / MORE} speaks of {about.joints} joints and the channels {about.channels!r}, but {CONFIG} of "
            f"{joints} joints and {len(channels)} channels; copy or train the encoder again."
        )
    return about


def known_topology(joints: int) -> Topology | int:
    """Public checkpoints name no topology; those of 25 joints are NTU RGB+D's."""
    return get_topology("ntu-25") if joints == 25 else joints


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises: UserError when it cannot be read."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}); copy or train the encoder again.") from error


def fill(
    module: nn.Module, weights: Mapping[str, Tensor], source: Path | str, described_by: str = f"its {CONFIG}"
) -> None:
    """Load `weights` into `module`, in its dtype.

    Raises: UserError naming every tensor that is missing, extra, of another shape than `described_by` says, or not
    floating-point.
    """
    expected = module.state_dict()
    wrong = [f"{name} is missing" for name in expected.keys() - weights.keys()]
    wrong += [f"{name} is not known" for name in weights.keys() - expected.keys()]
    wrong += [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(expected[name].shape)}"
        for name in expected.keys() & weights.keys()
        if weights[name].shape != expected[name].shape
    ]
    wrong += [f"{name} is {t.dtype}" for name, t in weights.items() if not t.is_floating_point()]
    if wrong:
        raise UserError(f"{source} does not fit {described_by}: {'; '.join(sorted(wrong))}.")
    module.load_state_dict(weights)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of an encoder's folder.

    Raises: UserError when it is missing or no JSON object.
    """
    try:
        fields: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path.parent} is no encoder folder ({path.name}: {error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}.") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path} does not describe an encoder: it holds no object.")
    return fields
