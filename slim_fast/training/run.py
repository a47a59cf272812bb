"""A whole pre-training run in a folder: begin or resume, train, evaluate on the way, finish."""

import hashlib
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from slim_fast.data.cache import ClipCache
from slim_fast.data.synthetic import write_synthetic
from slim_fast.errors import UserError
from slim_fast.evaluation.probe import labelled_split, online_knn
from slim_fast.model.files import save_encoder
from slim_fast.training.checkpoint import Checkpoints, write_atomically
from slim_fast.training.config import PretrainConfig
from slim_fast.training.interrupt import Interrupt
from slim_fast.training.machine import choose_device, keep_freed_memory
from slim_fast.training.monitor import Monitor, read_metrics
from slim_fast.training.summary import finish, print_summary
from slim_fast.training.trainer import NonFiniteLoss, Trainer
from slim_fast.views.store import FrameStore

# A resumed run may differ from the one that was begun in these fields, and in no other.
FREE_FIELDS = ("out", "data", "device", "threads", "log")


class Interrupted(Exception):
    """The run was asked to stop and has saved its state; `status` is the process' exit status."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


def pretrain(config: PretrainConfig) -> dict[str, Any]:
    """Run `config` in the folder config.out, or resume it there; returns the summary (also in summary.json).

    Raises: UserError for bad input, NaN losses and unwritable folders; Interrupted after Ctrl-C or SIGTERM.
    """
    config.check()
    assert config.out is not None
    folder = Path(config.out)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    if device.type == "cpu":
        keep_freed_memory()
    try:
        return _pretrain(folder, config, device)
    except OSError as error:
        raise UserError(
            f"The run in {folder} cannot go on ({error}). Mend that and give the same command again, or choose another "
            "--out."
        ) from error


def _pretrain(folder: Path, config: PretrainConfig, device: torch.device) -> dict[str, Any]:
    begin_folder(folder, config)
    if (folder / "summary.json").exists():
        summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        print(f"{folder} holds a finished run; choose another --out for a new one.")
        print_summary(summary)
        return summary
    cache = open_data(config, folder)
    trainer = Trainer(config, FrameStore(cache, training_clips(cache, config.split), device))
    checkpoints = Checkpoints(folder / "checkpoints", config.log.keep)
    step, seconds = restore(trainer, checkpoints, cache)
    seconds = train(trainer, cache, checkpoints, folder, step, seconds)
    save_encoder(trainer.model.teacher.encoder, folder / "encoder", cache.topology, cache.channels)
    return finish(trainer, cache, folder, seconds)


def begin_folder(folder: Path, config: PretrainConfig) -> None:
    """Make the run folder and write config.json, or check that the run begun there is the same.

    A run without checkpoints has nothing to lose: its settings may still change.
    Raises: UserError when the folder cannot be written or holds another run (the differing fields named).
    """
    path = folder / "config.json"
    fields = json.loads(json.dumps(asdict(config)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_atomically(path, lambda file: file.write(json.dumps(fields, indent=1).encode()))
            return
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "not writable")
        begun = json.loads(path.read_text(encoding="utf-8"))
        ours = isinstance(begun, dict) and begun.keys() == fields.keys()
        if ours and not (folder / "checkpoints").exists():
            write_atomically(path, lambda file: file.write(json.dumps(fields, indent=1).encode()))
            return
    except OSError as error:
        raise UserError(
            f"The run folder {folder} cannot be used ({error.strerror}); choose another with --out."
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is damaged; choose another folder with --out.") from error
    different = sorted(
        f"{name}: {before!r} -> {now!r}"
        for name, before, now in _differences(begun, fields)
        if name.split(".")[0] not in FREE_FIELDS
    )
    if different:
        raise UserError(
            f"{folder} holds a run with other settings ({'; '.join(different[:6])}); "
            "give the same settings to resume it, or choose another --out."
        )


def _differences(before: Any, now: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [d for k in keys for d in _differences(before.get(k), now.get(k), f"{name}.{k}" if name else k)]
    return [] if before == now else [(name, before, now)]


def open_data(config: PretrainConfig, folder: Path) -> ClipCache:
    """The cache that config.data names; "synthetic" is generated once, beside the run folder."""
    if config.data != "synthetic":
        return ClipCache.open(Path(config.data))
    path = folder.parent / "synthetic"
    if not path.exists():
        print(f"Generating skeleton actions into {path} ...", flush=True)
        write_synthetic(path)
    return ClipCache.open(path)


def training_clips(cache: ClipCache, split: str | None) -> Any:
    """Clip indices to train on: the split's training side, or every clip when the cache has no split or split is
    "all".
    """
    if split == "all" or (split is None and not cache.splits):
        return None
    return cache.split(split)[0]


def clips_digest(trainer: Trainer) -> str:
    """What tells the clips that a run trains on from other ones, wherever their cache lies."""
    store = trainer.store
    columns = [getattr(store.cache, name)[store.clips] for name in ("names", "length", "people")]
    facts = [store.topology.to_dict(), store.channels, *(column.tolist() for column in columns)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def restore(trainer: Trainer, checkpoints: Checkpoints, cache: ClipCache) -> tuple[int, float]:
    """Load the newest checkpoint, if any: (steps done, seconds spent).

    Raises: UserError when the run was begun on other clips.
    """
    state = checkpoints.load(trainer.device)
    if state is None:
        return 0, 0.0
    if state["clips"] != clips_digest(trainer):
        raise UserError(
            f"The run in {checkpoints.folder.parent} was begun on other clips than those of {cache.path}; "
            "give the --data it was begun with, or choose another --out."
        )
    trainer.load_state_dict(state)
    print(f"Resuming at step {state['step']} of {trainer.config.steps}.", flush=True)
    return int(state["step"]), float(state["seconds"])


def train(
    trainer: Trainer, cache: ClipCache, checkpoints: Checkpoints, folder: Path, step: int, seconds: float
) -> float:
    """Train from `step` to the end; returns the seconds spent in all."""
    config, log = trainer.config, trainer.config.log
    knn_every = log.knn_every or max(1, config.steps // 10)
    checkpoint_every = log.checkpoint_every or max(1, config.steps // 10)
    sides = knn_sides(cache, config)
    clips = clips_digest(trainer)
    began = time.perf_counter() - seconds
    monitor = Monitor(folder, step, config.steps, config.batch)
    saved = step if step else None
    evaluated = {record["step"] for record in read_metrics(folder / "metrics.jsonl") if "knn_top1" in record}

    def due(every: int) -> bool:
        return step > 0 and (step % every == 0 or step == config.steps)

    try:
        with Interrupt() as interrupt:
            while True:
                stop = interrupt.requested
                if step != saved and (stop or due(checkpoint_every)):
                    spent = time.perf_counter() - began
                    checkpoints.save(step, {**trainer.state_dict(), "step": step, "seconds": spent, "clips": clips})
                    saved = step
                    monitor.restart_clock()
                if stop:
                    raise Interrupted(
                        f"Stopped by {stop.name} after step {step}; {checkpoints.path(step)} is saved. "
                        "The same command resumes the run.",
                        128 + stop,
                    )
                if sides is not None and due(knn_every) and step not in evaluated:
                    accuracy = online_knn(cache, trainer.model.teacher.encoder, *sides)
                    monitor.write(step, {"knn_top1": accuracy})
                    monitor.say(f"step {step}: 1-NN accuracy {accuracy:.1%}")
                    monitor.restart_clock()
                    evaluated.add(step)
                    continue  # a signal may have come meanwhile
                if step == config.steps:
                    break
                values, now = trainer.step(step)
                step += 1
                monitor.advance()
                if due(log.metrics_every):
                    numbers = {name: value.item() for name, value in values.items()}
                    rate = monitor.rate()
                    schedules = {k: float(v) for k, v in asdict(now).items()}
                    monitor.write(step, {**numbers, **schedules, "samples_per_second": rate})
                    losses = {name: numbers[name] for name in numbers if name != "gradient_norm"}
                    monitor.show(step, rate, {**losses, "lr": now.learning_rate})
    except NonFiniteLoss as error:
        raise UserError(_describe(error, checkpoints, folder)) from error
    finally:
        monitor.close()
    return time.perf_counter() - began


def _describe(error: NonFiniteLoss, checkpoints: Checkpoints, folder: Path) -> str:
    path = folder / f"nonfinite-step-{error.step}.txt"
    path.write_text("\n".join(error.clips) + "\n", encoding="utf-8")
    last = checkpoints.files()
    shown = ", ".join(error.clips[:4]) + (f" and {len(error.clips) - 4} more" if len(error.clips) > 4 else "")
    return (
        f"{error}. Its batch held the clips {shown} (all in {path}). "
        f"The last good checkpoint is {last[-1] if last else 'none: the run had not written one yet'}; "
        "inspect the clips, or choose another --out with a lower optim.learning_rate."
    )


def knn_sides(cache: ClipCache, config: PretrainConfig) -> tuple[Any, Any] | None:
    """The clips of the online k-NN, None when the split has no labels to compare."""
    try:
        return labelled_split(cache, None if config.split == "all" else config.split, config.log.knn_clips)
    except UserError:
        return None
