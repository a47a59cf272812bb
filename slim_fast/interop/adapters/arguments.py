"""Arguments of other code bases: which sizes they request, and a warning of unused ones."""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from slim_fast.errors import UserError
from slim_fast.interop.checkpoints.read import Checkpoint, read_checkpoint
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.files import CHANNEL_NAMES, EncoderDescription, default_topology
from slim_fast.skeletons import Topology
from slim_fast.skeletons.compatibility import find_mismatch

Source = str | Path | Checkpoint | None
Requested = Mapping[str, tuple[str, Any]]
"""Sizes by our names: joints (a number or a Topology), channels (a number or their names) and
fields of EncoderConfig -> the other code base's name, and the requested value (None: any).
"""
Unused = Mapping[str, tuple[Any, Any]]
"""Argument -> its value, and the one value that would change nothing."""


def resolve_description(
    model: str, pretrained: Source, requested: Requested
) -> tuple[EncoderDescription, Checkpoint | None]:
    """Describe the encoder to make, and read its weights.

    Sizes are the checkpoint's, or without one the requested ones and the released rest.

    Args:
        model: its name in messages.
        pretrained: a path or hub name, as SLiMEncoder.from_pretrained takes.
        requested: sizes that the code base's arguments give.

    Raises: UserError when the requested sizes contradict the checkpoint or describe no encoder, or
    as `read_checkpoint`.
    """
    wanted: dict[str, Any] = {
        ours: value for ours, (_, value) in requested.items() if value is not None
    }
    if pretrained is None:
        joints, channels = wanted.pop("joints", 25), wanted.pop("channels", "xyz")
        names = channels if isinstance(channels, str) else CHANNEL_NAMES.get(channels)
        if names is None:
            raise UserError(
                f"{model}: {requested['channels'][0]}={channels}, but clips have 2, 3 or 4 "
                "channels."
            )
        topology = joints if isinstance(joints, Topology) else default_topology(joints)
        return EncoderDescription(EncoderConfig(**wanted), topology, names, {}), None
    checkpoint = read_checkpoint(pretrained)
    about = checkpoint.about
    if checkpoint.heads_warning and "heads" in wanted:
        about = replace(about, config=replace(about.config, heads=wanted["heads"]))
    elif checkpoint.heads_warning:
        warnings.warn(checkpoint.heads_warning, stacklevel=4)
    actual = {"joints": about.topology, "channels": about.channels, **asdict(about.config)}
    wrong = [
        f"{requested[ours][0]}={_format(value)} (it has {_format(actual[ours])})"
        for ours, value in wanted.items()
        if not _is_equal(value, actual[ours])
    ]
    if wrong:
        raise UserError(
            f"{model}: the checkpoint {checkpoint.source} contradicts {', '.join(wrong)}; leave "
            "these arguments out, or give another checkpoint."
        )
    return about, checkpoint


def _is_equal(requested: Any, actual: Any) -> bool:
    """Equality, where channels may be a number or names, and joints a number or a topology."""
    if isinstance(requested, Topology) or isinstance(actual, Topology):
        return find_mismatch(requested, "", actual, "") is None
    if type(requested) is type(actual):
        return bool(requested == actual)
    numbers = [x if isinstance(x, int | float) else len(x) for x in (requested, actual)]
    return bool(numbers[0] == numbers[1])


def _format(value: Any) -> Any:
    return value.name if isinstance(value, Topology) else value


def warn_unused(model: str, unused: Unused) -> None:
    """Warn once of all arguments whose values have no effect."""
    # Configs in YAML may say `None`, which is a string there.
    named = [
        f"{name}={given!r}"
        for name, (given, default) in unused.items()
        if given not in (None, "None", default)
    ]
    if named:
        warnings.warn(f"{model}: SLiM's encoder has no use for {', '.join(named)}.", stacklevel=4)
