"""Clips to draw, and the figures that were drawn."""

import numpy as np
import pytest

from slim_fast.drawing import style
from slim_fast.skeletons import get_topology

NTU = get_topology("ntu-25")


RECORDS = [
    {"step": s, "loss": 9 - s / 10, "contrastive": 5 - s / 20, "learning_rate": 1e-4}
    for s in range(30)
]


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved, still open to look at."""
    saved = []
    save = style.save

    def remember(figure, path):
        saved.append(figure)
        return save(figure, path)

    monkeypatch.setattr(style, "save", remember)
    return saved


def clip(topology=NTU, frames=20, channels=3, people=1, seed=0):
    return (
        np.random.default_rng(seed)
        .normal(1, 0.5, (frames, topology.num_joints, channels, people))
        .astype("f")
    )
