"""All people of clips at given frames, centred on the first person."""

import numpy as np
import torch
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.views.store import mapped_positions
from slim_fast.views.undetected import detected_joints, find_origin, interpolate


def gather_clips(cache: ClipCache, clips: np.ndarray, position: Tensor, people: int) -> Tensor:
    """(N, M, window, V, C) float32 clips, M = min(people, most people of a clip in the cache).

    position (N, window) float32: frames of each clip, between two of which is interpolated; no
    frame is interpolated from undetected joints, which are zeros, as are absent people. Of more
    than M people the first are taken, in the cache's order. The first person's centre joint in
    their first frame (`find_origin`) is the origin.
    """
    start, length, num_people = (
        torch.from_numpy(np.asarray(a)[clips]) for a in (cache.start, cache.length, cache.people)
    )
    dims = len(cache.channels.rstrip("c"))
    most = min(people, int(np.max(cache.people)))
    below = position.long()
    weight = (position - below)[:, None, :, None, None]
    above = (below + 1).minimum(length[:, None] - 1)
    # absent people are copies of the last one, and zeroed at the end
    person = torch.arange(most).minimum(num_people[:, None] - 1)  # (N, M)
    first = start[:, None] + person * length[:, None]
    positions = mapped_positions(cache)

    def gather(frame: Tensor) -> Tensor:  # (N, window) -> (N, M, window, V, C)
        rows = first[:, :, None] + frame[:, None]
        return positions.index_select(0, rows.flatten()).view(*rows.shape, *positions.shape[1:])

    views = interpolate(gather(below), gather(above), weight, dims)
    present = (torch.arange(most) < num_people[:, None])[..., None, None]  # (N, M, 1, 1)
    detected = detected_joints(views, dims) & present
    firsts = (positions[s : s + n] for s, n in zip(start, length, strict=True))
    centre = torch.stack([find_origin(own, cache.topology.centre, dims) for own in firsts])
    return torch.where(detected[..., None], views - centre[:, None, None, None], 0)
