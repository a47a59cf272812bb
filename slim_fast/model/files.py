"""Encoders on disk: config.json and model.safetensors, in the public checkpoints' format."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from slim_fast.errors import UserError
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.skeletons import Topology

CONFIG, WEIGHTS = "config.json", "model.safetensors"
# `arch` names a size in the public format; ours writes the sizes out as well.
_SIZES = {"vit_tiny": {"embed_dim": 256, "depth": 8, "num_heads": 8, "mlp_ratio": 4.0}}


def save_encoder(encoder: Encoder, folder: Path, topology: Topology, channels: str) -> None:
    """Write `encoder` to `folder`; each file is whole or not there.

    Raises: UserError when the folder cannot be written.
    """
    config = encoder.config
    fields = {
        "arch": "vit_tiny",
        "img_size": [64, encoder.joints],
        "patch_size": [config.patch_frames, 1],
        "in_chans": encoder.channels,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": config.ffn_ratio,
        "num_register_tokens": config.registers,
        "ffn_layer": "swiglufused",
        "block_chunks": 0,
        "qkv_bias": True,
        "proj_bias": True,
        "ffn_bias": True,
        "init_values": 0.0,
        "topology": topology.to_dict(),
        "channels": channels,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / (WEIGHTS + ".tmp")
        save_file({name: t.detach().cpu().contiguous() for name, t in encoder.state_dict().items()}, weights)
        os.replace(weights, folder / WEIGHTS)
        description = folder / (CONFIG + ".tmp")
        description.write_text(json.dumps(fields, indent=1), encoding="utf-8")
        os.replace(description, folder / CONFIG)
    except (OSError, SafetensorError) as error:
        raise UserError(f"Could not write the encoder to {folder}: {error}.") from error


def load_encoder(folder: Path, device: torch.device | str = "cpu") -> Encoder:
    """Read an encoder that `save_encoder` or the public release wrote.

    Raises: UserError when a file is missing or damaged, or when tensors are missing, extra or of another shape (all
    named).
    """
    fields = read_config(folder)
    sizes = {**_SIZES.get(fields.get("arch", ""), {}), **fields}
    try:
        config = EncoderConfig(
            width=int(sizes["embed_dim"]),
            depth=int(sizes["depth"]),
            heads=int(sizes["num_heads"]),
            ffn_ratio=float(sizes["mlp_ratio"]),
            registers=int(sizes["num_register_tokens"]),
            patch_frames=int(sizes["patch_size"][0]),
        )
        joints, channels = int(sizes["img_size"][1]), int(sizes["in_chans"])
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise UserError(f"{folder / CONFIG} does not describe an encoder: {error!r} is missing or wrong.") from error
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder / WEIGHTS} cannot be read ({error}); copy or train the encoder again.") from error
    encoder = Encoder(config, joints, channels)
    expected = encoder.state_dict()
    wrong = [f"{name} is missing" for name in expected.keys() - weights.keys()]
    wrong += [f"{name} is not known" for name in weights.keys() - expected.keys()]
    wrong += [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(expected[name].shape)}"
        for name in expected.keys() & weights.keys()
        if weights[name].shape != expected[name].shape
    ]
    if wrong:
        raise UserError(f"{folder / WEIGHTS} does not fit {CONFIG}: {'; '.join(sorted(wrong))}.")
    encoder.load_state_dict(weights)
    return encoder.to(device)


def read_config(folder: Path) -> dict[str, Any]:
    """The fields of an encoder folder's config.json.

    Raises: UserError when it is missing or not JSON.
    """
    try:
        fields: Any = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{folder} is no encoder folder ({CONFIG}: {error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"{folder / CONFIG} is not JSON: {error}.") from error
    if not isinstance(fields, dict):
        raise UserError(f"{folder / CONFIG} does not describe an encoder: it holds no object.")
    return fields
