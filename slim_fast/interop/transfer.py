"""An encoder's weights on another skeleton: joint embeddings by the joints' names, the patch embedding by the axes."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from slim_fast.data.clips import coordinate_count
from slim_fast.errors import UserError
from slim_fast.skeletons import Topology, get_topology
from slim_fast.skeletons.correspondence import Correspondence, correspondence

if TYPE_CHECKING:
    from slim_fast.interop.encoder import SLiMEncoder

Transferred = TypeVar("Transferred", bound="SLiMEncoder")
# Of somebody who faces the camera, Kinects have the left side at smaller x, pictures and SMPL at larger x.
_KINECT, _SMPL = ("ntu-25", "kinect-v1-20", "utd-mhad-20"), "smpl-24"


def to_skeleton(encoder: Transferred, topology: Topology | str, channels: str | None = None) -> Transferred:
    """See SLiMEncoder.to_skeleton."""
    old, new = encoder.topology, get_topology(topology) if isinstance(topology, str) else topology
    if not isinstance(old, Topology) or not isinstance(new, Topology):
        raise UserError(
            "to_skeleton goes by the joints' names, and of "
            + ("this encoder's" if isinstance(old, int) else "the new skeleton's")
            + " only the number is known: name the topology."
        )
    found = correspondence(old, new)
    if found.guessed:
        warnings.warn(
            f"The names of {', '.join(found.guessed)} are not known; their embeddings are those of their neighbours in "
            f"{new.name}.",
            stacklevel=3,
        )
    return transfer(encoder, found, channels or encoder.channel_names)


def transfer(encoder: Transferred, found: Correspondence, channels: str) -> Transferred:
    """A copy of `encoder` for the joints of found.target and `channels`, in its dtype, on its device, in its mode.

    Raises: UserError for unknown channels and for a frozen encoder.
    """
    coordinate_count(channels)
    moved = copy.deepcopy(encoder)
    positions, proj = moved.pos_embed, moved.patch_embed.proj
    rows = torch.tensor(found.weights, dtype=torch.float64, device=positions.device)  # (V', V)
    axes = axis_map(found.source, found.target, encoder.channel_names, channels).to(proj.weight)  # (C', C)
    with torch.no_grad():
        joints = (rows @ positions[0, 1:].double()).to(positions)
        if "c" in encoder.channel_names and "c" not in channels and proj.bias is not None:
            proj.bias += proj.weight[:, -1].sum((1, 2))  # the confidence is the last channel
        patches = torch.einsum("dcpq,kc->dkpq", proj.weight, axes).contiguous()
        embedded = torch.cat([positions[:, :1], joints[None]], 1)
    moved.pos_embed = nn.Parameter(embedded, positions.requires_grad)
    proj.weight, proj.in_channels = nn.Parameter(patches, proj.weight.requires_grad), len(channels)
    moved.joints, moved.channels = found.target.num_joints, len(channels)
    moved.topology, moved.channel_names = found.target, channels
    return moved


def axis_map(source: Topology, target: Topology, old: str, new: str) -> Tensor:
    """(len(new), len(old)), entries 0, 1 and -1: row vectors in the target's channels `new` times it are what the
    source's channels `old` would be.

    A turn, never a mirror image: about x, so that up stays up, and about the vertical, where one of the two formats
    has the left side of somebody who faces the camera at smaller x and the other at larger x. What only `old` has
    becomes 0, what only `new` has is not looked at.
    """
    around = -1 if {_left_at_larger_x(source), _left_at_larger_x(target)} == {True, False} else 1
    entries: dict[tuple[str, str], int] = {("c", "c"): 1}
    for turn, (to, ours), (of, theirs) in zip((around, 1, around), _frame(target), _frame(source), strict=True):
        entries[to, of] = turn * ours * theirs
    return torch.tensor([[float(entries.get((to, of), 0)) for of in old] for to in new])


def _frame(topology: Topology) -> tuple[tuple[str, int], tuple[str, int], tuple[str, int]]:
    """Axes and signs of what lies to the side, up, and right-handed to both."""
    axis, sign = topology.up[-1], -1 if topology.up.startswith("-") else 1
    return ("x", 1), (axis, sign), ("z", sign) if axis == "y" else ("y", -sign)


def _left_at_larger_x(topology: Topology) -> bool | None:
    """Of somebody who faces the camera; None: not known of other people's formats, and taken as in the other one."""
    if topology.name in _KINECT:
        return False
    return True if topology.name == _SMPL or topology.up == "-y" else None
