"""The view pipeline on one core: a batch at a time against one sample at a time in numpy. It must reach 5×."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.baselines.numpy_views import sample_batch
from benchmarks.measure import interleave, workers
from benchmarks.records import Recorder
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
def test_views(benchmark: Any, cache: Path, quick: bool, recorder: Recorder, batch: int) -> None:
    if quick and batch != BATCHES[0]:
        pytest.skip("one case is enough to see that it runs")
    with workers({"ours": ours, "baseline": baseline}, 1, path=cache, batch=batch) as sides:
        figures = interleave(benchmark, sides, rounds=2 if quick else 5).figures()
    recorder.add("views", {"batch": batch}, **figures, threads=1, target=TARGET)
