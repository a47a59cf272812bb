"""Streams of a clip: its joints, the bones between them, or how the joints move."""

from typing import Literal

import torch
import torch.nn.functional as F
from slim_kernels.runtime.tensor_cache import cached_tensors
from torch import Tensor

from slim_fast.errors import UserError
from slim_fast.skeletons import Topology
from slim_fast.views.undetected import detected_joints

Stream = Literal["joint", "bone", "motion"]
STREAMS: tuple[Stream, ...] = ("joint", "bone", "motion")


def to_stream(clips: Tensor, stream: Stream, topology: Topology | int, dims: int) -> Tensor:
    """Clips (..., T, V, C) of joints as one of STREAMS, of the same shape.

    bone: each joint minus its parent, zeros for the root. motion: the next frame minus this one,
    zeros for the last. Zeros, as of undetected joints, where one of the two is undetected; a
    confidence stays. dims: how many channels are coordinates.
    Raises: UserError for bones of joints without names.
    """
    if stream == "joint":
        return clips
    if stream == "motion":
        other = F.pad(clips[..., 1:, :, :], (0, 0, 0, 0, 0, 1))
        sign = -1
    else:
        if isinstance(topology, int):
            raise UserError(
                f"Bones need a skeleton, and of this encoder only its {topology} joints are known: "
                "pass topology."
            )
        other, sign = clips.index_select(-2, _parents(topology.parents, clips.device)), 1
    both = detected_joints(clips, dims) & detected_joints(other, dims)
    difference = torch.where(both[..., None], sign * (clips - other), 0)
    return torch.cat([difference[..., :dims], clips[..., dims:]], -1)


@cached_tensors(16)
def _parents(parents: tuple[int, ...], device: torch.device) -> Tensor:
    """int64 (V,): each joint's parent, the root's itself."""
    own = [joint if parent < 0 else parent for joint, parent in enumerate(parents)]
    return torch.tensor(own, device=device)


def parse_streams(text: str) -> tuple[Stream, ...]:
    """Streams of an option, "joint,bone,motion". Raises: UserError for others, or one twice."""
    names = text.split(",")
    known = {str(stream): stream for stream in STREAMS}
    for name in names:
        if name not in known:
            raise UserError(
                f"--stream {text}: choose of {', '.join(STREAMS)}, set apart by commas."
            )
    if len(set(names)) < len(names):
        raise UserError(f"--stream {text}: name each stream once.")
    return tuple(known[name] for name in names)
