"""A whole pre-training run in a folder: begin or resume, train, evaluate on the way, finish."""

import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError, describe_os_error
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.files import save_encoder
from slim_fast.skeletons import Topology
from slim_fast.training.checkpoint import Checkpoints
from slim_fast.training.clips import hash_clips, open_data, select_training_clips
from slim_fast.training.config import PretrainConfig
from slim_fast.training.fitting import begun_batch, find_fitting_batch
from slim_fast.training.folder import CHECKPOINTS, begin_run, record_resume, replace_encoder
from slim_fast.training.lock import RunLock
from slim_fast.training.loop import TrainingLoop, describe_conditions
from slim_fast.training.machine import choose_device, keep_freed_memory
from slim_fast.training.output import logger
from slim_fast.training.ranks import Ranks, join_ranks
from slim_fast.training.summary import finish_run, show_finished
from slim_fast.training.teacher import describe_classes
from slim_fast.training.threads import count_processors
from slim_fast.training.trackers import import_tracker
from slim_fast.training.trainer import Trainer
from slim_fast.views.store import FrameStore

Initial = Callable[[str, Topology, str, EncoderConfig], Mapping[str, Tensor]]


def pretrain(config: PretrainConfig, initial: Initial | None = None) -> dict[str, Any]:
    """Run `config` in the folder config.out, or resume it there; returns its summary.

    Of the processes that torchrun started, each trains on its share of every batch, and the first
    one does all else; the others return {}.
    initial: reads the encoder named by config.init for a topology, channels and sizes
    (`slim_fast.interop.initial.load_initial_weights`).
    Raises: UserError for bad input, NaN losses, unwritable folders and those in use by another
    process; Interrupted after Ctrl-C, SIGTERM or SIGHUP.
    """
    config.check()
    assert config.out is not None
    if config.threads:
        if config.threads > count_processors():
            warnings.warn(
                f"--threads {config.threads} on {count_processors()} processors: threads will "
                "wait for each other; leave it out to take as many as there are",
                stacklevel=2,
            )
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    with join_ranks(device, config.max_wait) as ranks:
        return _run(Path(config.out), config, device, initial, ranks)


def _run(
    folder: Path,
    config: PretrainConfig,
    device: torch.device,
    initial: Initial | None,
    ranks: Ranks,
) -> dict[str, Any]:
    ranks.split(config.batch, config.accumulate)
    if config.log.tracker is not None:
        import_tracker(config.log.tracker)
    if device.type == "cpu":
        keep_freed_memory()
    try:
        ranks.first_does(lambda: _make_folder(folder))
        with RunLock(folder) if ranks.is_first else nullcontext():
            return _pretrain(folder, config, device, initial, ranks)
    except OSError as error:
        raise UserError(
            f"The run in {folder} cannot go on ({describe_os_error(error)}). Mend that and "
            "give the same command again, or choose another --out."
        ) from error


def _make_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a run folder; choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)


def _pretrain(
    folder: Path,
    config: PretrainConfig,
    device: torch.device,
    initial: Initial | None,
    ranks: Ranks,
) -> dict[str, Any]:
    fitted = ranks.first_does(lambda: begun_batch(folder, config))
    config.batch = fitted or config.batch
    summary = ranks.first_does(lambda: begin_run(folder, config))
    if summary is not None:
        show_finished(folder, summary)
        return summary
    cache = ranks.after_first(lambda: open_data(config, folder))
    store = FrameStore(
        cache,
        select_training_clips(cache, config.split),
        device,
        config.data_memory,
        config.data_dtype,
        config.views.people,
    )
    if config.fit_batch and fitted is None:
        config.batch = find_fitting_batch(config, store, ranks)
        ranks.first_does(lambda: begin_run(folder, config))
    if len(store) < config.batch:
        warnings.warn(
            f"a batch of {config.batch} clips from {len(store)}: each is in it several times; take "
            f"a --batch of at most {len(store)}, or more clips",
            stacklevel=3,
        )
    trainer = Trainer(config, store, ranks)
    checkpoints = Checkpoints(folder / CHECKPOINTS, config.log.keep)
    state = restore(trainer, checkpoints, cache)
    if state is not None:
        step, seconds = int(state["step"]), float(state["seconds"])
        before = state.get("conditions", {})
        if step > config.steps:
            raise UserError(
                f"The run in {folder} has done {step} steps already; give at least as many --steps."
            )
        now = describe_conditions(trainer)
        changed = {k: [v, now[k]] for k, v in before.items() if now.get(k, v) != v}
        ranks.first_does(lambda: record_resume(folder, config, step, changed))
        logger.info(f"Resuming at step {step} of {config.steps}.{_explain_changes(before, now)}")
    else:
        step, seconds = 0, 0.0
        if config.init is not None:
            start_from(trainer, config.init, initial, cache)
    seconds = TrainingLoop(trainer, cache, checkpoints, folder, step, seconds).run()
    encoder = trainer.gather_evaluated()
    if not ranks.is_first:
        return {}
    classes = describe_classes(cache.classes)

    def save(path: Path) -> None:
        save_encoder(encoder, path, cache.topology, cache.channels, classes)

    replace_encoder(folder, save)
    return finish_run(trainer, encoder, cache, folder, seconds)


def start_from(trainer: Trainer, source: str, initial: Initial | None, cache: ClipCache) -> None:
    """Load the encoder named by `source` into the trainer. Raises: UserError if it does not fit."""
    if initial is None:
        raise UserError(
            f"init={source!r} needs a reader: pretrain(config, "
            "slim_fast.interop.initial.load_initial_weights)."
        )
    sizes = cache.topology, cache.channels, trainer.config.model.encoder
    trainer.start_from(trainer.ranks.first_does(lambda: initial(source, *sizes)), source)


def _explain_changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    sentence = ""
    if before.get("steps", now["steps"]) != now["steps"]:
        sentence += (
            f" It was a run of {before['steps']} steps: schedules are shares of the run, so from "
            f"here on they are those of a run of {now['steps']}."
        )
    others = [
        f"{k} {v} -> {now[k]}" for k, v in before.items() if k != "steps" and now.get(k, v) != v
    ]
    if others:
        sentence += f" Not bit for bit the run that was begun from here on: {', '.join(others)}."
    return sentence


def restore(trainer: Trainer, checkpoints: Checkpoints, cache: ClipCache) -> dict[str, Any] | None:
    """Load and return the newest checkpoint, if any. Raises: UserError for other clips."""
    ranks = trainer.ranks
    # other processes have devices of their own
    device = trainer.device if ranks.size == 1 else torch.device("cpu")
    state = ranks.first_does(lambda: checkpoints.load(device))
    if state is None:
        return None
    if state["clips"] != hash_clips(trainer.store):
        raise UserError(
            f"The run in {checkpoints.folder.parent} was begun on other clips than those of "
            f"{cache.path}; give the --data it was begun with, or choose another --out."
        )
    trainer.load_state_dict(state)
    return state
