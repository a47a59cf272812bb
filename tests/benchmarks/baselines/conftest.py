"""Random skeletons for the tests of the baselines."""

import numpy as np


def walk(topology, frames=90, seed=0):
    """A moving random skeleton (T, V, 3)."""
    rng = np.random.default_rng(seed)
    bones = rng.normal(0, 0.2, (1, topology.num_joints, 3)) + rng.normal(
        0, 0.03, (frames, topology.num_joints, 3)
    )
    path = np.cumsum(rng.normal(0, 0.02, (frames, 1, 3)), axis=0) + np.array([0.3, 1.0, 2.5])
    return (bones + path).astype(np.float32)
