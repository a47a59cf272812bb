"""One training step on the CPU: `Trainer.step` against four padded forwards with materialised logits, both in the same
precision. It must reach 1.5×.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.baselines.eager_slim import EagerSLiM, make_optimizer
from benchmarks.baselines.numpy_views import Window, sample_batch
from benchmarks.eager_sizes import eager_config
from benchmarks.measure import interleave, workers
from benchmarks.records import Recorder
from slim_fast.data.cache import ClipCache
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.heads import HeadConfig
from slim_fast.model.slim import ModelConfig
from slim_fast.pretrain import parse
from slim_fast.training.config import PretrainConfig
from slim_fast.training.machine import choose_dtype
from slim_fast.training.trainer import Trainer
from slim_fast.views.pipeline import PATCH_FRAMES, ViewsConfig
from slim_fast.views.store import FrameStore

TARGET = 1.5
RECIPE_BATCH = 8
PREPARED = 4
TEACHER_TEMP = 0.05
SIZES = ("demo", "recipe")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def settings(sizes: str, precision: str = "fp32", attention: str = "all") -> PretrainConfig:
    """The config of a preset, of the recipe ("recipe") or of a toy, with prototypes that train."""
    if sizes == "toy":
        head = HeadConfig(hidden=32, bottleneck=16, prototypes=32)
        config = PretrainConfig(batch=4, model=ModelConfig(EncoderConfig(width=16, depth=2, heads=2), head))
    elif sizes == "recipe":
        config = PretrainConfig(batch=RECIPE_BATCH)
    else:
        config = parse(["--preset", sizes, "--data", "synthetic"])  # some presets want data named; ours is given
    optim = dataclasses.replace(config.optim, freeze_prototypes=0.0, teacher_temperature=(TEACHER_TEMP, TEACHER_TEMP))
    encoder = dataclasses.replace(config.model.encoder, attention=attention)
    model = dataclasses.replace(config.model, encoder=encoder)
    return dataclasses.replace(config, precision=precision, optim=optim, model=model)


def windows(views: ViewsConfig) -> dict[int, Window]:
    """The same views as the numpy baseline is told them."""
    given = [(views.window, 1, views.interval), *((v.window, v.count, v.interval) for v in views.local)]
    return {frames: Window(count, share, max(1, frames // PATCH_FRAMES)) for frames, count, share in given}


def build_trainer(path: Path, sizes: str, precision: str, attention: str = "all") -> Trainer:
    return Trainer(settings(sizes, precision, attention), FrameStore(ClipCache.open(path)))


def ours(path: Path, sizes: str, precision: str, views: bool, attention: str = "all") -> Callable[[], float]:
    trainer, steps = build_trainer(path, sizes, precision, attention), iter(range(1 << 30))
    if not views:
        prepared = [trainer.sampler(trainer.order(step), step) for step in range(PREPARED)]
        trainer.sampler = lambda clip, step: prepared[step % PREPARED]  # type: ignore[assignment]

    def run() -> float:
        losses, _ = trainer.step(next(steps))
        return losses["loss"].item()

    return run


def baseline(path: Path, sizes: str, precision: str, views: bool) -> Callable[[], float]:
    """From the same weights, and on the same views where they are prepared."""
    trainer = build_trainer(path, sizes, precision)
    config, cache = trainer.config, trainer.store.cache
    eager = EagerSLiM(eager_config(config.model, cache.topology.num_joints, len(cache.channels)))
    eager.load_state_dict(trainer.model.state_dict())
    optimizer, steps, rng = make_optimizer(eager, lr=1e-5), iter(range(1 << 30)), np.random.default_rng(0)
    order, told = trainer.order, windows(config.views)
    walks = [cache.clip(i)[..., 0] for i in range(len(cache))]
    prepared = [trainer.sampler(order(step), step).groups for step in range(PREPARED)]
    autocast = None if precision == "fp32" else PRECISIONS[precision]

    def run() -> float:
        step = next(steps)
        if views:
            made = sample_batch([walks[i] for i in order(step).tolist()], cache.topology, rng, windows=told)
            clips, masks = ([torch.from_numpy(x) for x in part] for part in (made.clips, made.masks))
        else:
            clips, masks = ([getattr(g, part) for g in prepared[step % PREPARED]] for part in ("clips", "mask"))
        return eager.training_step(optimizer, clips, masks, TEACHER_TEMP, autocast=autocast)["loss"].item()

    return run


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("views", [False, True], ids=["model", "whole"])
@pytest.mark.parametrize("sizes", SIZES)
def test_step(
    benchmark: Any,
    cache: Path,
    quick: bool,
    threads: int,
    recorder: Recorder,
    sizes: str,
    views: bool,
    precision: str,
    beyond: Callable[[bool], None],
) -> None:
    if quick and (sizes, precision) != (SIZES[0], "fp32"):
        pytest.skip("one case is enough to see that it runs")
    beyond((sizes, precision) == ("recipe", "fp32") and not quick)
    if sizes == "recipe" and views:
        pytest.skip("the recipe's step with views: at batch 8 they are a hundredth of it")
    if choose_dtype("auto", torch.device("cpu")) != PRECISIONS[precision] != torch.float32:
        pytest.skip(f"this processor does not multiply {precision} natively")
    sizes = "toy" if quick else sizes
    rounds = 2 if quick else 3 if sizes == "recipe" else 5
    sides = {"ours": ours, "baseline": baseline}
    with workers(sides, threads, path=cache, sizes=sizes, precision=precision, views=views) as built:
        result = interleave(benchmark, built, rounds)
    if not views:
        assert result.first["ours"] == pytest.approx(
            result.first["baseline"], rel=1e-3 if precision == "fp32" else 1e-2
        )
    case = {"sizes": sizes, "batch": settings(sizes).batch, "precision": precision, "views": views}
    recorder.add("training_step", case, **result.figures(), threads=threads, target=TARGET)
