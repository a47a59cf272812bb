"""Small caches of made-up clips, and a χ² test."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from slim_fast.data import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.skeletons import get_topology
from slim_fast.views.store import FrameStore

MakeStore = Callable[..., FrameStore]


@pytest.fixture
def surprise() -> Callable[..., float]:
    def of(counts: Tensor, expected: Tensor | None = None) -> float:
        """How many standard deviations too uneven (n,) counts are: χ², made normal after Wilson and
        Hilferty.

        expected: (n,) proportional to the expected counts; None: all alike.
        """
        counts = counts.double()
        expected = torch.ones_like(counts) if expected is None else expected.double()
        expected = expected / expected.sum() * counts.sum()
        degrees = len(counts) - 1
        statistic = float(((counts - expected).square() / expected).sum())
        spread = 2 / (9 * degrees)
        return ((statistic / degrees) ** (1 / 3) - 1 + spread) / math.sqrt(spread)

    return of


@pytest.fixture
def walker() -> Callable[..., np.ndarray]:
    def make(
        frames: int, joints: int = 25, channels: int = 3, people: int = 1, seed: int = 0
    ) -> np.ndarray:
        """(T, V, C, M) float32: people that stand apart, away from the origin, and move slowly."""
        rng = np.random.default_rng(seed)
        shape = rng.normal(0, 0.4, (1, joints, channels, people)) + rng.normal(
            3, 0.5, (1, 1, channels, people)
        )
        path = np.cumsum(rng.normal(0, 0.02, (frames, 1, channels, people)), axis=0)
        return (shape + path + rng.normal(0, 0.01, (frames, joints, channels, people))).astype(
            np.float32
        )

    return make


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    def make(
        clips: Sequence[np.ndarray],
        topology: str = "ntu-25",
        channels: str = "xyz",
        **options: object,
    ) -> FrameStore:
        path = tmp_path / f"cache-{len(list(tmp_path.iterdir()))}"
        with CacheWriter(path, get_topology(topology), channels) as writer:
            for number, positions in enumerate(clips):
                writer.add(Clip(positions, f"clip-{number}"))
        return FrameStore(ClipCache.open(path), **options)  # type: ignore[arg-type]

    return make
