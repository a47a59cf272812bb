"""Encoders on disk: config.json and model.safetensors as public, and our own slim_fast.json."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from slim_fast.data.clips import CHANNELS
from slim_fast.errors import UserError, describe_os_error
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.reading import parse_json
from slim_fast.skeletons import Topology, get_topology
from slim_fast.writing import replace_atomically, write_atomically

CONFIG, WEIGHTS, MORE = "config.json", "model.safetensors", "slim_fast.json"
# `arch` names a size in the public format. Other sizes are written out, under a name that the
# release's loader refuses.
_SIZES: dict[str, dict[str, Any]] = {
    "vit_tiny": {"embed_dim": 256, "depth": 8, "num_heads": 8, "mlp_ratio": 4.0}
}
OTHER_SIZES = "slim"
HEADS = "num_heads"
"""Of a weights file's metadata: it does not follow from the tensors' shapes."""
CLASSES = "classes"
"""In slim_fast.json: classes of the recordings that an encoder without a head was trained on."""
_LARGEST = 1 << 16
"""Of any size of an encoder: what is larger is a damaged file, and would not fit into memory."""
CHANNEL_NAMES = {2: "xy", 3: "xyz", 4: "xyzc"}


@dataclass(frozen=True)
class EncoderDescription:
    """What an encoder is made for. `more`: what a classifier adds."""

    config: EncoderConfig
    topology: Topology | int
    """Or the number of joints, where it is not written down which they are."""
    channels: str
    more: Mapping[str, Any]

    @property
    def joints(self) -> int:
        return self.topology if isinstance(self.topology, int) else self.topology.num_joints


def save_encoder(
    encoder: Encoder,
    folder: Path,
    topology: Topology | int,
    channels: str,
    more: Mapping[str, Any] | None = None,
    fields: Mapping[str, Any] | None = None,
) -> None:
    """Write `encoder` to `folder`; each file is whole or not there.

    more: of slim_fast.json, fields: of config.json, beside what they hold anyway.
    Raises: UserError when the folder cannot be written, and for fields that contradict the encoder.
    """
    own = public_fields(encoder)
    wrong = [
        f"{name}={value!r} (it has {own[name]!r})"
        for name, value in (fields or {}).items()
        if name in own and _plain(value) != own[name]
    ]
    if wrong:
        raise UserError(
            f"The config to save contradicts the encoder: {', '.join(wrong)}; leave these fields "
            "out."
        )
    known = {} if isinstance(topology, int) else {"topology": topology.to_dict()}
    config = encoder.config
    ours = {**known, "channels": channels, "attention": config.attention, **(more or {})}
    ours |= {} if config.stream == "joint" else {"stream": config.stream}
    state = encoder.state_dict()
    with torch.device("meta"):
        public = Encoder(encoder.config, encoder.joints, encoder.channels).state_dict().keys()
    heads = {
        name
        for name, tensor in state.items()
        if name.startswith("head.") and isinstance(tensor, Tensor)
    }
    if strange := sorted((state.keys() ^ public) - heads):
        raise UserError(
            "The public format can't hold this encoder, whose layers were changed "
            f"({', '.join(strange[:4])}{', ...' if len(strange) > 4 else ''}): merge or remove "
            "what was added to them, or save its state_dict()."
        )
    tensors = {name: t.detach().cpu().contiguous() for name, t in state.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replace_atomically(folder / WEIGHTS) as weights:
            save_file(tensors, weights, {HEADS: str(encoder.config.heads)})
        for name, content in ((MORE, ours), (CONFIG, {**own, **(fields or {})})):
            text = json.dumps(content, indent=1).encode()
            write_atomically(folder / name, lambda file, text=text: file.write(text))  # type: ignore[misc]
    except (OSError, SafetensorError) as error:
        raise UserError(f"Could not write the encoder to {folder}: {error}.") from error


def public_fields(encoder: Encoder) -> dict[str, Any]:
    """config.json in the public format; sizes other than the released ones are written out."""
    config = encoder.config
    sizes = {
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": config.ffn_ratio,
    }
    released = [arch for arch, size in _SIZES.items() if size == sizes]
    return {
        "arch": released[0] if released else OTHER_SIZES,
        "img_size": [config.window, encoder.joints],
        "patch_size": [config.patch_frames, 1],
        "in_chans": encoder.channels,
        "num_register_tokens": config.registers,
        "ffn_layer": "swiglufused",
        "block_chunks": 0,
        "qkv_bias": True,
        "proj_bias": True,
        "ffn_bias": True,
        "init_values": 0.0,
        **({} if released else sizes),
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def encoder_folder(run: Path) -> Path:
    """The encoder's folder of a finished run, or `run` itself."""
    return run / "encoder" if (run / "encoder").is_dir() else run


def load_encoder(folder: Path, device: torch.device | str = "cpu") -> Encoder:
    """Read an encoder that `save_encoder` or the public release wrote.

    Raises: UserError when a file is missing or damaged, or when tensors are missing, extra or of
    another shape (all named).
    """
    about = read_description(folder)
    encoder = Encoder(about.config, about.joints, len(about.channels))
    encoder.topology, encoder.channel_names = about.topology, about.channels
    load_tensors(encoder, read_weights(folder / WEIGHTS, about.config), folder / WEIGHTS)
    return encoder.to(device)


def read_description(folder: Path) -> EncoderDescription:
    """Read config.json and slim_fast.json, if any. Raises: UserError when missing or damaged."""
    ours = read_json(folder / MORE) if (folder / MORE).exists() else {}
    return parse_description(read_json(folder / CONFIG), ours, folder / CONFIG)


def parse_description(
    fields: Mapping[str, Any], ours: Mapping[str, Any], source: Path | str
) -> EncoderDescription:
    """The encoder that a config.json and slim_fast.json (`ours`) describe. Raises: UserError."""
    ours = dict(ours)
    sizes = _SIZES.get(str(fields.get("arch", "")), {})
    if sizes.keys() & fields.keys():  # sizes that are written out are so in full: none is guessed
        sizes = {}
    try:
        fields = {**sizes, **fields}
        config = EncoderConfig(
            width=int(fields["embed_dim"]),
            depth=int(fields["depth"]),
            heads=int(fields["num_heads"]),
            ffn_ratio=float(fields["mlp_ratio"]),
            registers=int(fields["num_register_tokens"]),
            patch_frames=int(fields["patch_size"][0]),
            window=int(fields["img_size"][0]),
            attention=ours.pop("attention", "all"),
            stream=ours.pop("stream", "joint"),
        )
        joints, channels = int(fields["img_size"][1]), CHANNEL_NAMES[int(fields["in_chans"])]
        numbers = [value for value in vars(config).values() if isinstance(value, int | float)]
        if not all(number <= _LARGEST for number in [*numbers, joints]):
            raise ValueError(f"a size above {_LARGEST}")
    except (KeyError, TypeError, IndexError, ValueError, OverflowError) as error:
        raise UserError(
            f"{source} does not describe an encoder: {error!r} is missing or wrong."
        ) from error
    described = ours.pop("topology", None)
    topology = default_topology(joints) if described is None else Topology.from_dict(described)
    about = EncoderDescription(config, topology, ours.pop("channels", channels), ours)
    if about.channels not in CHANNELS or (about.joints, len(about.channels)) != (
        joints,
        len(channels),
    ):
        raise UserError(
            f"{MORE} speaks of {about.joints} joints and the channels {about.channels!r}, but "
            f"{source} of {joints} joints and {len(channels)} channels; copy or train the encoder "
            "again."
        )
    return about


def default_topology(joints: int) -> Topology | int:
    """Public checkpoints name no topology; those of 25 joints are NTU RGB+D's."""
    return get_topology("ntu-25") if joints == 25 else joints


def read_weights(path: Path, config: EncoderConfig) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises: UserError when unreadable, or of other heads."""
    try:
        path.open("rb").close()  # safetensors takes what must not be read for absent
        with safe_open(path, "pt") as file:
            heads = (file.metadata() or {}).get(HEADS, str(config.heads))
        weights = load_file(path)
    except PermissionError as error:
        raise UserError(f"{describe_os_error(error)}: mend its permissions.") from error
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); copy or train the encoder again."
        ) from error
    if heads != str(config.heads):
        raise UserError(
            f"{path} was trained with {heads} attention heads, but {CONFIG} beside it says "
            f"{config.heads}; copy or train the encoder again."
        )
    return weights


def load_tensors(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    source: Path | str,
    described_by: str = f"its {CONFIG}",
) -> None:
    """Load `weights` into `module`, in its dtype.

    Raises: UserError naming every tensor that is missing, extra, of another shape than
    `described_by` says, or not floating-point.
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
    """The object in an encoder's JSON file. Raises: UserError when it is missing or no object."""
    try:
        fields: Any = parse_json(path.read_bytes())  # finds out the encoding, with or without a BOM
    except PermissionError as error:
        raise UserError(f"{describe_os_error(error)}: mend its permissions.") from error
    except OSError as error:
        raise UserError(
            f"{path.parent} is no encoder folder ({path.name}: {error.strerror})."
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}.") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path} does not describe an encoder: it holds no object.")
    return fields
