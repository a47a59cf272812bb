"""What `encoder.attention: visible` saves: our training step with it, against our step with attention to all tokens, on
the same prepared views.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.bench_training_step import PRECISIONS, SIZES, ours, settings
from benchmarks.measure import interleave, workers
from benchmarks.records import Recorder
from slim_fast.training.machine import choose_dtype


@pytest.mark.parametrize("sizes", SIZES)
def test_step(
    benchmark: Any,
    cache: Path,
    quick: bool,
    threads: int,
    recorder: Recorder,
    sizes: str,
    beyond: Callable[[bool], None],
) -> None:
    if quick and sizes != SIZES[0]:
        pytest.skip("one case is enough to see that it runs")
    beyond(sizes == "recipe")
    sizes = "toy" if quick else sizes
    native = choose_dtype("auto", torch.device("cpu"))
    precision = next(name for name, dtype in PRECISIONS.items() if dtype == native)
    sides = {"ours": partial(ours, attention="visible"), "baseline": partial(ours, attention="all")}
    with workers(sides, threads, path=cache, sizes=sizes, precision=precision, views=False) as built:
        result = interleave(benchmark, built, rounds=2 if quick else 3 if sizes == "recipe" else 7)
    case = {"sizes": sizes, "batch": settings(sizes).batch, "precision": precision}
    recorder.add("visible_attention", case, **result.figures(), threads=threads)
