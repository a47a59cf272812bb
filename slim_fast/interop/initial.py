"""Weights that pre-training starts from."""

import logging
from collections.abc import Mapping
from dataclasses import fields

from torch import Tensor

from slim_fast.errors import UserError
from slim_fast.interop.checkpoints.read import read_checkpoint
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.model.encoder import EncoderConfig
from slim_fast.skeletons import Topology

_NOT_IN_WEIGHTS = {"attention", "patch_init", "ffn_ratio", "window", "stream"}
"""Fields of a configuration that do not follow from the weights' shapes."""


def load_initial_weights(
    source: str, topology: Topology, channels: str, config: EncoderConfig
) -> Mapping[str, Tensor]:
    """Load the encoder of `source`, transferred to `topology` and `channels` where they differ.

    Raises: UserError when there is no encoder, when its sizes differ from `config`'s (each listed
    with its option), or when it cannot be transferred.
    """
    checkpoint = read_checkpoint(source)
    about = checkpoint.about
    guessed = ("heads",) if checkpoint.heads_warning else ()
    wrong = {
        field.name: getattr(about.config, field.name)
        for field in fields(EncoderConfig)
        if field.name not in _NOT_IN_WEIGHTS | set(guessed)
        and getattr(about.config, field.name) != getattr(config, field.name)
    }
    if about.config.hidden != config.hidden and "width" not in wrong:
        wrong["ffn_ratio"] = about.config.ffn_ratio
    if wrong:
        has = ", ".join(f"{name} {getattr(config, name)}" for name in wrong)
        options = " ".join(f"--model.encoder.{name} {value}" for name, value in wrong.items())
        raise UserError(
            f"The encoder in {source} does not have this run's sizes ({has}): add {options}."
        )
    old, note, number = about.topology, "", topology.num_joints
    if isinstance(old, int):
        if old != number:
            raise UserError(
                f"The encoder in {source} is of {old} joints without names, and the data are of "
                f"{number} ({topology.name}): name them, with "
                f"SLiMEncoder.from_pretrained({source!r}, topology=...).save_pretrained(FOLDER), "
                "and start from FOLDER."
            )
        old, note = (
            topology,
            f"; its joints have no names and are taken for those of {topology.name}, in this order",
        )
    if guessed:
        note += f"; its heads are not written down and are taken to be {config.heads}"
    encoder = SLiMEncoder(old, about.channels, config)
    encoder.load_checkpoint(checkpoint)
    if (old.joints, old.up, about.channels) != (topology.joints, topology.up, channels):
        encoder = encoder.to_skeleton(topology, channels)
        note += (
            f"; it is of {old.name} ({about.channels}) and was carried over to {topology.name} "
            f"({channels}) by the joints' names"
        )
    logging.getLogger("slim_fast").info(f"Starting from the encoder in {source}{note}.")
    return encoder.state_dict()
