"""The encoder and the whole training step at the recipe's sizes."""

import dataclasses
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.baselines.eager_slim import EagerSLiM, make_optimizer
from benchmarks.gpu import timing
from benchmarks.gpu.run import Run, first_line
from benchmarks.gpu.speed import halves
from benchmarks.records.gpu_rows import median
from benchmarks.records.recorder import quartiles
from benchmarks.suite.clips import write_random_cache
from benchmarks.suite.eager import eager_config, eager_encoder_like
from benchmarks.suite.ops import CHANNELS, TEACHER_TEMPERATURE
from slim_fast.data.cache import ClipCache
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.model.heads import HeadConfig
from slim_fast.model.slim import ModelConfig
from slim_fast.training.config import PretrainConfig
from slim_fast.training.optimizer import clip_gradients
from slim_fast.training.trainer import Trainer
from slim_fast.views.pipeline import ViewBatch, ViewGroup
from slim_fast.views.store import FrameStore

JOINTS, FRAMES, PEOPLE, CLIPS = 25, 64, 2, 512
TOY = ModelConfig(
    EncoderConfig(width=32, depth=2, heads=2), HeadConfig(hidden=32, bottleneck=16, prototypes=64)
)
ROUNDS = 8
# Losses of two bf16 computations of one step differ by less.
SAME_LOSS = 0.01


def clip_flops(model: ModelConfig) -> int:
    """FLOP of the encoder for one clip of PEOPLE people, counted on the eager one."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        EagerSLiM(eager_config(model, JOINTS, CHANNELS)).student.encoder(
            torch.empty(PEOPLE, FRAMES, JOINTS, CHANNELS)
        )
    return counter.get_total_flops()


def inference(run: Run) -> None:
    """Clips a second, and the fraction of the matmul ceiling that they reach."""
    model, count = (TOY, 4) if run.quick else (ModelConfig(), CLIPS)
    with torch.device(run.device):
        torch.manual_seed(0)
        encoder = Encoder(model.encoder, JOINTS, CHANNELS).bfloat16().eval()
        eager = eager_encoder_like(encoder, model, JOINTS, CHANNELS).bfloat16()
        clips = torch.randn(count * PEOPLE, FRAMES, JOINTS, CHANNELS).bfloat16()

    @torch.no_grad()
    def ours() -> Tensor:
        return encoder.encode_packed([clips], [None])[0]

    @torch.no_grad()
    def baseline() -> Tensor:
        return eager(clips)

    times = run.timer({"ours": ours, "eager": baseline})
    rates = {side: quartiles(count / np.array(ms) * 1e3) for side, ms in times.items()}
    flops = clip_flops(model)
    note = f"{count} clips, {flops / 1e9:.2f} GFLOP a clip"
    speedup = timing.faster(times["ours"], times["eager"])
    reached = [rate * flops / 1e12 for rate in rates["ours"]]
    share = [rate / median(run.ceiling) for rate in reached]
    fields = {"baseline": rates["eager"], "unit": "clips/s", "ratio": speedup, "note": note}
    run.add("encoder", "two-person clips", rates["ours"], **fields)
    fields = {"baseline": run.ceiling, "unit": "TFLOP/s", "ratio": share, "note": note}
    run.add("encoder", "share of the matrix ceiling", reached, **fields, target=0.45)


def build_trainer(run: Run, folder: Path, batch: int) -> Trainer:
    """The recipe's trainer on random clips, its prototypes already training."""
    cache = folder / "cache"
    if not cache.exists():
        write_random_cache(cache, 1024)
    config = PretrainConfig(batch=batch, precision="bf16" if run.device.type == "cuda" else "fp32")
    optim = dataclasses.replace(
        config.optim,
        freeze_prototypes=0.0,
        teacher_temperature=(TEACHER_TEMPERATURE, TEACHER_TEMPERATURE),
    )
    model = TOY if run.quick else config.model
    config = dataclasses.replace(config, optim=optim, model=model)
    return Trainer(config, FrameStore(ClipCache.open(cache), device=run.device))


def part(views: ViewBatch, batch: int) -> ViewBatch:
    """The first `batch` clips of a batch of views."""
    groups = [ViewGroup(g.window, g.clips[:batch], g.mask[:batch]) for g in views.groups]
    return ViewBatch(groups, views.clip[:batch], views.step)


def whole_batch(run: Run) -> int:
    return 8 if run.quick else PretrainConfig().batch


def stepper(trainer: Trainer, views: ViewBatch | None = None) -> Callable[[], Any]:
    """One step after the other; on the same views where they are given."""
    if views is not None:
        trainer.sampler = lambda clip, step, part: views  # type: ignore[assignment]
    numbers = iter(range(1 << 30))
    return lambda: trainer.step(next(numbers))


def largest(
    run: Run, make: Callable[[int], Callable[[], Any]]
) -> tuple[int, Callable[[], Any], int]:
    """The largest batch (the recipe's, or that halved) whose step fits, the step, and the peak of
    allocated bytes.
    """
    for batch in halves(whole_batch(run)):
        torch.cuda.empty_cache()
        with suppress(torch.OutOfMemoryError):
            body = make(batch)
            return batch, body, timing.peak_bytes(body, above=0)
        body = None
    raise RuntimeError("not even one clip fits")


def step(run: Run) -> None:
    """Ours with its views made, ours on prepared views, and the eager one on the same prepared
    views.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        batch, whole, peak = largest(run, lambda size: stepper(build_trainer(run, folder, size)))
        seconds = timing.wall_seconds(whole, ROUNDS)
        del whole
        rate, note = (
            quartiles(batch / np.array(seconds)),
            f"batch {batch}, peak {peak / 1e9:.3g} GB",
        )
        run.add("Trainer.step", "views made", rate, unit="samples/s", target=5000, note=note)
        trainer = build_trainer(run, folder, batch)
        views = trainer.sampler(trainer.order(0).to(run.device), 0)
    eager = EagerSLiM(eager_config(trainer.config.model, JOINTS, CHANNELS)).to(run.device)
    eager.load_state_dict(trainer.model.state_dict())
    low = trainer.dtype if trainer.dtype != torch.float32 else None

    def eager_stepper(size: int) -> Callable[[], Any]:
        optimizer, given = make_optimizer(eager, lr=1e-6), part(views, size)
        clips, masks = [g.clips for g in given.groups], [g.mask for g in given.groups]
        return lambda: eager.training_step(
            optimizer, clips, masks, TEACHER_TEMPERATURE, autocast=low
        )["loss"].item()

    # Before either moves the weights: is it the same step?
    few = part(views, min(batch, 8))
    with torch.no_grad(), autocast(trainer):
        mine = trainer.model(few, TEACHER_TEMPERATURE)["loss"].item()
        clips, masks = [g.clips for g in few.groups], [g.mask for g in few.groups]
        theirs = eager.loss(clips, masks, TEACHER_TEMPERATURE)["loss"].item()
    fields = {"baseline": theirs, "ratio": abs(mine / theirs - 1), "target": SAME_LOSS}
    fields |= {"at_most": True, "note": "ratio: relative difference"}
    run.add("Trainer.step", "loss of a few clips", mine, **fields, check=True)

    ours = stepper(trainer, views)
    mine_s = timing.wall_seconds(ours, ROUNDS)
    del ours, trainer  # the eager side gets the memory for itself
    size, baseline, eager_peak = largest(run, eager_stepper)
    theirs_s = timing.wall_seconds(baseline, ROUNDS)
    rates = [batch / np.array(mine_s), size / np.array(theirs_s)]
    note = f"batch {batch}, eager {size}"
    fields = {"baseline": quartiles(rates[1]), "unit": "samples/s", "target": 4.0, "note": note}
    ratio = quartiles(rates[0] / rates[1])
    run.add("Trainer.step", "same views prepared", quartiles(rates[0]), ratio=ratio, **fields)
    fields = {"baseline": eager_peak / 1e9, "unit": "GB", "note": note}
    run.add("Trainer.step", "peak memory", peak / 1e9, **fields)


def autocast(trainer: Trainer) -> AbstractContextManager[Any]:
    """As in the trainer's step."""
    return torch.autocast(
        trainer.device.type, torch.bfloat16, enabled=trainer.dtype == torch.bfloat16
    )


def graph(run: Run) -> None:
    """Captures of the losses with their gradients, then of the whole step, and how much faster
    replays are.
    """
    with tempfile.TemporaryDirectory() as name:
        trainer = build_trainer(run, Path(name), whole_batch(run))
        views = trainer.sampler(trainer.order(0).to(run.device), 0)
    model, optimizer = trainer.model, trainer.optimizer
    for group in optimizer.param_groups:
        group["capturable"] = True

    def gradients() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(trainer):
            loss = model(views, TEACHER_TEMPERATURE)["loss"]
        loss.backward()

    def whole() -> None:
        gradients()
        clip_gradients(model.student, trainer.config.optim.clip)
        optimizer.step()
        model.update_teacher(0.999)

    for what, body in (("losses and gradients", gradients), ("whole step, same views", whole)):
        try:
            replay = captured(body)
        except Exception as error:  # an operation that waits for the GPU, most likely
            cause: BaseException = error
            while cause.__context__ is not None:  # ending a broken capture raises once more
                cause = cause.__context__
            run.add("CUDA graph", what, 0.0, target=1, note=f"no: {first_line(cause)}")
            continue
        times = run.timer({"replay": replay, "launched": body})
        run.add_times("CUDA graph", what, times, "launched", "replay", note="yes")


def captured(body: Callable[[], Any]) -> Callable[[], None]:
    """Replays of one call, captured after a warm-up on a stream of its own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(timing.WARM_UP):
            body()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        body()
    return graph.replay
