"""The demo's samples a second, and one training step beside those of masked baselines."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.baselines.gfp import GFP, GFPConfig
from benchmarks.baselines.mae import MAEConfig, MaskedAutoencoder
from benchmarks.baselines.s_jepa import SJEPA, SJEPAConfig
from benchmarks.baselines.transformer import MaskedModel
from benchmarks.records.recorder import quartiles
from benchmarks.suite import bench_training_step
from benchmarks.suite.bench import Bench
from benchmarks.suite.bench_training_step import make_config
from benchmarks.suite.encoders import PRECISIONS
from benchmarks.suite.workers import workers
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
def test_pretrain(bench: Bench, cache: Path, precision: str) -> None:
    bench.skip_if_quick(precision != "fp32")
    if precision not in bench.native_precisions((precision,)):
        pytest.skip(f"this processor does not multiply {precision} natively")
    bench.skip_unless_thorough(not bench.quick and precision != bench.native_precisions()[0])
    built = {"path": cache, "steps": 2 if bench.quick else STEPS, "precision": precision}
    with workers({"ours": run_of}, bench.threads, **built) as sides:
        rates: list[float] = []
        bench.benchmark.pedantic(
            lambda: rates.append(sides["ours"].run().value), rounds=1 if bench.quick else 2
        )
    found, batch = quartiles(rates), make_config("demo").batch
    bench.record(
        "pretrain",
        {"sizes": "demo", "precision": precision},
        seconds={"ours": [batch / rate for rate in reversed(found)]},
        batch=batch,
        samples_per_second=found,
        rounds=len(rates),
    )


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


def test_step(bench: Bench, cache: Path) -> None:
    precision = "fp32" if bench.quick else bench.native_precisions()[0]
    sizes = "toy" if bench.quick else "recipe"
    batch = make_config(sizes).batch
    ours = partial(bench_training_step.ours, path=cache, sizes=sizes, views=True)
    sides: dict[str, Callable[..., Any]] = {"ours": ours}
    sides |= {name: partial(masked, name=name, toy=bench.quick, batch=batch) for name in BASELINES}
    rounds = bench.compare(sides, 2, precision=precision)
    for name in BASELINES:
        case = {"baseline": name, "batch": batch, "precision": precision}
        metrics = {**rounds.metrics(name), "peak_bytes": rounds.peaks(name)}
        bench.record("baseline_training", case, **metrics)
