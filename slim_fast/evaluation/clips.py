"""Clips of a cache at given frames."""

import numpy as np
import torch
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.views.memory import mapped_positions
from slim_fast.views.prepare import gather_people


def gather_clips(cache: ClipCache, clips: np.ndarray, position: Tensor, people: int) -> Tensor:
    """(N, M, window, V, C) float32 clips, M = min(people, most people of a clip in the cache).

    position (N, window) float32: frames of each clip, see `gather_people`. The people are the first
    of those in the cache.
    """
    start, length, crowd = (
        torch.from_numpy(np.asarray(a)[clips]) for a in (cache.start, cache.length, cache.people)
    )
    most = min(people, int(np.max(cache.people)))
    dims, centre = len(cache.channels.rstrip("c")), cache.topology.centre
    rows = mapped_positions(cache)
    return gather_people(rows, start, length, crowd, position, most, centre, dims)
