"""Pre-training as people run it: samples a second of the demo, from the command's own summary; and one training step of
SLiM beside those of the masked baselines, on as many clips.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import bench_training_step
from benchmarks.baselines.gfp import GFP, GFPConfig
from benchmarks.baselines.mae import MAEConfig, MaskedAutoencoder
from benchmarks.baselines.s_jepa import SJEPA, SJEPAConfig
from benchmarks.baselines.transformer import MaskedModel
from benchmarks.bench_training_step import settings
from benchmarks.conftest import LeftOut
from benchmarks.encoders import PRECISIONS
from benchmarks.measure import interleave, quartiles, workers
from benchmarks.records import Recorder
from slim_fast.pretrain import parse
from slim_fast.training.run import pretrain

STEPS = 25
BASELINES: dict[str, Callable[..., MaskedModel]] = {
    "MAE": lambda **sizes: MaskedAutoencoder(MAEConfig(**sizes)),
    "S-JEPA": lambda **sizes: SJEPA(SJEPAConfig(**sizes)),
    "GFP": lambda **sizes: GFP(GFPConfig(**sizes)),
}
TOY = {"frames": 120, "width": 16, "depth": 2, "heads": 2}


def run_of(path: Path, steps: int, precision: str) -> Callable[[], float]:
    """Samples a second of one run of the demo on the clips at `path`."""
    options = ["--data", str(path), "--steps", str(steps), "--precision", precision]
    options += ["--threads", str(torch.get_num_threads())]

    def run() -> float:
        with (
            tempfile.TemporaryDirectory() as folder,
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            summary = pretrain(parse([*options, "--out", str(Path(folder) / "run")]))
        return float(summary["samples_per_second"])

    return run


@pytest.mark.parametrize("precision", PRECISIONS)
def test_pretrain(
    benchmark: Any,
    cache: Path,
    quick: bool,
    threads: int,
    recorder: Recorder,
    left_out: LeftOut,
    precision: str,
    beyond: Callable[[bool], None],
) -> None:
    if precision not in left_out.without_slow_precisions((precision,), "cpu") or (quick and precision != "fp32"):
        pytest.skip("one case is enough to see that it runs")
    beyond(not quick and precision != left_out.without_slow_precisions(("bf16", "fp32"), "cpu")[0])
    steps = 2 if quick else STEPS
    with workers({"ours": run_of}, threads, path=cache, steps=steps, precision=precision) as built:
        rates: list[float] = []
        benchmark.pedantic(lambda: rates.append(built["ours"].run().value), rounds=1 if quick else 2)
    found = quartiles(rates)
    batch = settings("demo").batch
    seconds = {"ours": [batch / rate for rate in reversed(found)]}
    case = {"sizes": "demo", "precision": precision}
    figures = {"seconds": seconds, "batch": batch, "samples_per_second": found, "rounds": len(rates)}
    recorder.add("pretrain", case, **figures, threads=threads)


def masked(name: str, toy: bool, batch: int, precision: str) -> Callable[[], float]:
    """One training step of a masked baseline on clips of 120 frames."""
    torch.manual_seed(0)
    model = BASELINES[name](**(TOY if toy else {}))
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-4)
    clips = torch.randn(batch, model.config.frames, model.config.joints, model.config.channels)
    autocast = None if precision == "fp32" else PRECISIONS[precision]

    def run() -> float:
        return model.training_step(optimizer, clips, autocast=autocast)["loss"].item()

    return run


def test_step(benchmark: Any, cache: Path, quick: bool, threads: int, recorder: Recorder, left_out: LeftOut) -> None:
    precision = "fp32" if quick else left_out.without_slow_precisions(("bf16", "fp32"), "cpu")[0]
    sizes = "toy" if quick else "recipe"
    batch = settings(sizes).batch
    ours = partial(bench_training_step.ours, path=cache, sizes=sizes, views=True)
    sides: dict[str, Callable[..., Any]] = {"ours": ours}
    sides |= {name: partial(masked, name=name, toy=quick, batch=batch) for name in BASELINES}
    with workers(sides, threads, precision=precision) as built:
        rounds = interleave(benchmark, built, 1 if quick else 2)
    for name in BASELINES:
        case = {"baseline": name, "batch": batch, "precision": precision}
        recorder.add("baseline_training", case, **rounds.figures(name), peak_bytes=rounds.peaks(name), threads=threads)
