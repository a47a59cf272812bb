"""Our training step with `encoder.attention: visible`, against the same with "all"."""

from functools import partial
from pathlib import Path

import pytest

from benchmarks.suite.bench import Bench
from benchmarks.suite.bench_training_step import SIZES, make_config, ours


@pytest.mark.parametrize("sizes", SIZES)
def test_step(bench: Bench, cache: Path, sizes: str) -> None:
    bench.skip_if_quick(sizes != SIZES[0])
    bench.skip_unless_thorough(sizes == "recipe")
    sizes = "toy" if bench.quick else sizes
    precision = bench.native_precisions()[0]
    sides = {"ours": partial(ours, attention="visible"), "baseline": partial(ours, attention="all")}
    built = {"path": cache, "sizes": sizes, "precision": precision, "views": False}
    rounds = bench.compare(sides, 3 if sizes == "recipe" else 7, **built)
    case = {"sizes": sizes, "batch": make_config(sizes).batch, "precision": precision}
    bench.record("visible_attention", case, **rounds.metrics())
