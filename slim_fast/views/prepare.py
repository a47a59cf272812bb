"""People at given frames, centred: what every encoder reads, in evaluation, streams and by hand."""

import torch
from torch import Tensor

from slim_fast.views.undetected import detected_joints, find_origin, interpolate


def gather_people(
    rows: Tensor,
    start: Tensor,
    length: Tensor,
    people: Tensor,
    position: Tensor,
    most: int,
    centre: int,
    dims: int,
) -> Tensor:
    """(N, most, window, V, C) float32: clips at `position`, centred on their first person.

    No frame is interpolated from undetected joints, which are zeros, as are absent people. Of more
    than `most` people the first are taken. The first person's centre joint in their first frame
    (`find_origin`) is the origin.

    Args:
        rows: (R, V, C) float32; clip i owns the rows from start[i] on: all frames of its first
            person, then all of the second.
        start, length, people: int64 (N,).
        position: (N, window) float32, frames of each clip, between two of which is interpolated.
        centre: joint.
        dims: how many channels are coordinates.
    """
    below = position.long()
    weight = (position - below)[:, None, :, None, None]
    above = (below + 1).minimum(length[:, None] - 1)
    # absent people are copies of the last one, and zeroed at the end
    person = torch.arange(most).minimum(people[:, None] - 1)  # (N, M)
    first = start[:, None] + person * length[:, None]

    def gather(frame: Tensor) -> Tensor:  # (N, window) -> (N, M, window, V, C)
        index = first[:, :, None] + frame[:, None]
        return rows.index_select(0, index.flatten()).view(*index.shape, *rows.shape[1:])

    clips = interpolate(gather(below), gather(above), weight, dims)
    present = (torch.arange(most) < people[:, None])[..., None, None, None]  # (N, M, 1, 1, 1)
    firsts = (rows[s : s + n] for s, n in zip(start, length, strict=True))
    origin = torch.stack([find_origin(own, centre, dims) for own in firsts])
    return centre_on(torch.where(present, clips, 0), origin[:, None, None, None], dims)


def centre_on(clips: Tensor, origin: Tensor, dims: int) -> Tensor:
    """Clips (..., V, C) with `origin` (..., C) at zero; undetected joints stay zeros."""
    return torch.where(detected_joints(clips, dims)[..., None], clips - origin, 0)
