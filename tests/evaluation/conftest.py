"""Small labelled caches, and an encoder whose every part matters."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from slim_fast.data import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.skeletons import get_topology

MakeCache = Callable[..., ClipCache]


@pytest.fixture
def crowd() -> Callable[..., np.ndarray]:
    def make(
        frames: int, people: int = 1, seed: int = 0, joints: int = 25, channels: int = 3
    ) -> np.ndarray:
        """(T, V, C, M) float32 away from the origin, every number another."""
        rng = np.random.default_rng(seed)
        path = np.cumsum(rng.normal(0, 0.02, (frames, 1, channels, people)), axis=0)
        return (rng.normal(0, 0.4, (frames, joints, channels, people)) + path + 3).astype(
            np.float32
        )

    return make


@pytest.fixture
def make_cache(tmp_path: Path) -> MakeCache:
    def make(
        clips: Sequence[np.ndarray],
        topology: str = "ntu-25",
        channels: str = "xyz",
        **columns: Sequence[object],
    ) -> ClipCache:
        """columns: one value a clip for `label`, `subject` or `split` ("train", "test",
        "neither").
        """
        path = tmp_path / f"cache-{len(list(tmp_path.iterdir()))}"
        sides = columns.pop("split", ["neither"] * len(clips))
        with CacheWriter(path, get_topology(topology), channels) as writer:
            for i, positions in enumerate(clips):
                split = {"cs": str(sides[i])} if sides[i] != "neither" else {}
                fields = {name: values[i] for name, values in columns.items()}
                writer.add(Clip(positions, f"clip-{i}", split=split, **fields))  # type: ignore[arg-type]
        return ClipCache.open(path)

    return make


@pytest.fixture
def two_classes(make_cache: MakeCache, crowd: Callable[..., np.ndarray]) -> ClipCache:
    """12 clips of 2 classes by 6 subjects, of one person and of two, 8 of them to train on."""
    clips = [crowd(70, 1 + i % 2, i) for i in range(12)]
    return make_cache(
        clips,
        label=[i % 2 for i in range(12)],
        subject=[i // 2 for i in range(12)],
        split=["train" if i < 8 else "test" for i in range(12)],
    )


@pytest.fixture
def encoder() -> Encoder:
    made = Encoder(EncoderConfig(width=16, depth=2, heads=2, registers=2))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return made
