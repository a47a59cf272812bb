"""Weights for another skeleton: joint embeddings matched by name, the patch embedding by axes."""

import warnings
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from slim_fast.data.cache import ClipCache
from slim_fast.data.clips import count_coordinates
from slim_fast.errors import UserError
from slim_fast.evaluation.probe import check_encoder_fits
from slim_fast.model.block import is_plain_patch_embed
from slim_fast.model.encoder import Encoder
from slim_fast.model.frozen import copied
from slim_fast.skeletons import Topology, get_topology
from slim_fast.skeletons.compatibility import find_mismatch
from slim_fast.skeletons.correspondence import Correspondence, match_joints

AnyEncoder = TypeVar("AnyEncoder", bound=Encoder)
# A person who faces the camera has the left side at smaller x in Kinect recordings, and at larger
# x in images and SMPL.
_KINECT, _SMPL = ("ntu-25", "kinect-v1-20", "utd-mhad-20", "sbu-15"), "smpl-24"


def to_skeleton(
    encoder: AnyEncoder, topology: Topology | str, channels: str | None = None
) -> AnyEncoder:
    """See SLiMEncoder.to_skeleton."""
    old, new = encoder.topology, get_topology(topology) if isinstance(topology, str) else topology
    if not isinstance(old, Topology) or not isinstance(new, Topology):
        raise UserError(
            "to_skeleton goes by the joints' names, and of "
            + ("this encoder's" if isinstance(old, int) else "the new skeleton's")
            + " only the number is known: name the topology."
        )
    found = match_joints(old, new)
    if found.guessed:
        warnings.warn(
            f"The names of {', '.join(found.guessed)} are not known; their embeddings are those "
            f"of their neighbours in {new.name}.",
            stacklevel=3,
        )
    return transfer(encoder, found, channels or encoder.channel_names)


def match_to_cache(encoder: AnyEncoder, cache: ClipCache, match_joints: bool) -> AnyEncoder:
    """The encoder, transferred to the cache's skeleton with match_joints. Raises: UserError."""
    if match_joints and find_mismatch(
        encoder.topology, encoder.channel_names, cache.topology, cache.channels
    ):
        return to_skeleton(encoder, cache.topology, cache.channels)
    check_encoder_fits(cache, encoder)
    return encoder


def transfer(encoder: AnyEncoder, found: Correspondence, channels: str) -> AnyEncoder:
    """A copy of `encoder` for `found.target` and `channels`, with the same dtype, device and mode.

    Raises: UserError for unknown channels, a frozen encoder, and one whose embedding is no longer
    plain.
    """
    count_coordinates(channels)
    if not is_plain_patch_embed(encoder.patch_embed) or is_parametrized(encoder):
        raise UserError(
            "to_skeleton needs the patch embedding and the positions as they were made, and here "
            "they were replaced, hooked or reparametrised: merge or remove what was added first."
        )
    new = copied(encoder)
    positions, proj = new.pos_embed, new.patch_embed.proj
    rows = torch.tensor(found.weights, dtype=torch.float64, device=positions.device)  # (V', V)
    # (C', C)
    axes = axis_map(found.source, found.target, encoder.channel_names, channels).to(proj.weight)
    with torch.no_grad():
        joints = (rows @ positions[0, 1:].double()).to(positions)
        if "c" in encoder.channel_names and "c" not in channels and proj.bias is not None:
            proj.bias += proj.weight[:, -1].sum((1, 2))  # the confidence is the last channel
        patches = torch.einsum("dcpq,kc->dkpq", proj.weight, axes).contiguous()
        embedded = torch.cat([positions[:, :1], joints[None]], 1)
    new.pos_embed = nn.Parameter(embedded, positions.requires_grad)
    proj.weight, proj.in_channels = nn.Parameter(patches, proj.weight.requires_grad), len(channels)
    new.joints, new.channels = found.target.num_joints, len(channels)
    new.topology, new.channel_names = found.target, channels
    return new


def axis_map(source: Topology, target: Topology, old: str, new: str) -> Tensor:
    """Matrix (len(new), len(old)) of 0, 1 and -1 from the target's channels to the source's.

    A rotation, never a reflection: about x, so that up stays up, and about the vertical where one
    of the two formats has the left side of a person who faces the camera at smaller x and the other
    at larger x. Channels that only `old` has become 0; those that only `new` has are ignored.
    """
    sideways = -1 if {_left_at_larger_x(source), _left_at_larger_x(target)} == {True, False} else 1
    entries: dict[tuple[str, str], int] = {("c", "c"): 1}
    for sign, (to, to_sign), (of, of_sign) in zip(
        (sideways, 1, sideways), _frame(target), _frame(source), strict=True
    ):
        entries[to, of] = sign * to_sign * of_sign
    return torch.tensor([[float(entries.get((to, of), 0)) for of in old] for to in new])


def _frame(topology: Topology) -> tuple[tuple[str, int], tuple[str, int], tuple[str, int]]:
    """Axes and signs of sideways, up, and the third direction that makes them right-handed."""
    axis, sign = topology.up[-1], -1 if topology.up.startswith("-") else 1
    return ("x", 1), (axis, sign), ("z", sign) if axis == "y" else ("y", -sign)


def _left_at_larger_x(topology: Topology) -> bool | None:
    """Whether a person who faces the camera has the left side at larger x; None: unknown."""
    name = topology.name.split("/")[0]  # of a part: the whole's
    if name in _KINECT:
        return False
    return True if name == _SMPL or topology.up == "-y" else None
