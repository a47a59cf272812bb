"""The view pipeline on one core, by batches, against numpy sample by sample: at least 5×."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.baselines.numpy_views import sample_batch
from benchmarks.suite.bench import Bench
from slim_fast.data.cache import ClipCache
from slim_fast.views.pipeline import ViewSampler, ViewsConfig
from slim_fast.views.store import FrameStore

BATCHES = (64, 256, 768)
TARGET = 5.0


def ours(path: Path, batch: int) -> Callable[[], None]:
    sampler = ViewSampler(FrameStore(ClipCache.open(path)), ViewsConfig(), seed=0)
    clips, steps = torch.arange(batch), iter(range(1 << 30))

    def run() -> None:
        sampler(clips, next(steps))

    return run


def baseline(path: Path, batch: int) -> Callable[[], None]:
    cache, rng = ClipCache.open(path), np.random.default_rng(0)
    clips = [cache.clip(i)[..., 0] for i in range(batch)]

    def run() -> None:
        sample_batch(clips, cache.topology, rng)

    return run


@pytest.mark.parametrize("batch", BATCHES)
def test_views(bench: Bench, cache: Path, batch: int) -> None:
    bench.skip_if_quick(batch != BATCHES[0])
    sides = {"ours": ours, "baseline": baseline}
    rounds = bench.compare(sides, 5, threads=1, path=cache, batch=batch)
    bench.record("views", {"batch": batch}, **rounds.metrics(), threads=1, target=TARGET)
