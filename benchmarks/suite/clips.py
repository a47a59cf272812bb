"""Clips to measure on: random walks of random bodies, of the lengths that NTU's clips have."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slim_fast.data import CacheWriter
from slim_fast.data.clips import Clip
from slim_fast.skeletons import Topology, get_topology

LENGTHS = (40, 200)


def random_clip(topology: Topology, frames: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(frames, V, 3) metres: a fixed pose that trembles while its root walks about."""
    shape = (topology.num_joints, 3)
    pose = rng.normal(0, 0.3, (1, *shape)) + rng.normal(0, 0.02, (frames, *shape))
    path = np.cumsum(rng.normal(0, 0.02, (frames, 1, 3)), axis=0) + np.array([0.0, 1.0, 3.0])
    return (pose + path).astype(np.float32)


def write_random_cache(path: Path, clips: int, seed: int = 0) -> Path:
    """A cache of unlabelled one-person NTU-25 clips of 40 to 200 frames; returns the path."""
    topology, rng = get_topology("ntu-25"), np.random.default_rng(seed)
    with CacheWriter(path, topology, source="random walks") as writer:
        for number in range(clips):
            frames = int(rng.integers(LENGTHS[0], LENGTHS[1] + 1))
            writer.add(Clip(random_clip(topology, frames, rng)[..., None], f"walk-{number}"))
    return path
