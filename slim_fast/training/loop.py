"""The steps of a run, and between them checkpoints, evaluations and records."""

import logging
import math
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from slim_fast.data.cache import ClipCache
from slim_fast.errors import SaidElsewhere, UserError
from slim_fast.evaluation.probe import compute_online_knn
from slim_fast.training.checkpoint import Checkpoints
from slim_fast.training.clips import hash_clips, select_knn_clips
from slim_fast.training.folder import METRICS
from slim_fast.training.interrupt import Interrupt
from slim_fast.training.monitor import Monitor, NoMonitor, read_metrics
from slim_fast.training.output import logger
from slim_fast.training.profile import TRACE, StepProfile
from slim_fast.training.ranks import describe_loss, is_lost_connection
from slim_fast.training.schedules import ScheduleValues
from slim_fast.training.teacher import describe_encoder
from slim_fast.training.threads import ThreadAdapter
from slim_fast.training.trackers import open_tracker
from slim_fast.training.trainer import NonFiniteLoss, Trainer
from slim_fast.training.work import CEILING, describe_load
from slim_fast.writing import encode_text

EVENTS = 10  # evaluations and checkpoints of a run that names no interval
TRY_AGAIN = 75
"""Exit status of a run that has stopped by itself (EX_TEMPFAIL of sysexits.h)."""
_OVERTIME = 1 << 16  # beyond every signal's number


class Interrupted(Exception):
    """The run was asked to stop and has saved its state; `status` is the process' exit status."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class TrainingLoop:
    """Trains from `step` (done so far, in `seconds`) to the end, in a run's folder."""

    def __init__(
        self,
        trainer: Trainer,
        cache: ClipCache,
        checkpoints: Checkpoints,
        folder: Path,
        step: int,
        seconds: float,
    ) -> None:
        self.trainer, self.cache, self.ranks = trainer, cache, trainer.ranks
        self.checkpoints, self.folder = checkpoints, folder
        self.step, self.steps, self.log = step, trainer.config.steps, trainer.config.log
        self._began = time.perf_counter() - seconds
        hours = trainer.config.max_hours
        self._ends = math.inf if hours is None else time.monotonic() + 3600 * hours
        self._saved_step, self._saved_at = step or None, time.monotonic()
        self._knn_clips = select_knn_clips(cache, trainer.config)
        self._about = {
            "clips": hash_clips(trainer.store),
            "conditions": describe_conditions(trainer),
            "encoder": describe_encoder(
                trainer.model, cache.topology, cache.channels, cache.classes
            ),
        }

    def run(self) -> float:
        """Train; returns the seconds. Raises: Interrupted; UserError for a non-finite loss."""
        config = self.trainer.config
        self.monitor: Monitor | NoMonitor = NoMonitor()
        records = []
        if self.ranks.is_first:
            quiet, tracker = (
                not logger.isEnabledFor(logging.INFO),
                open_tracker(self.folder, config),
            )
            self.monitor = Monitor(self.folder, self.step, self.steps, config.batch, quiet, tracker)
            records = read_metrics(self.folder / METRICS)  # up to this step
        evaluated = {record["step"] for record in records if "knn_top1" in record}
        self._evaluated = self.ranks.share(evaluated)
        threads = ThreadAdapter(config.threads is not None, self.monitor.print_line)
        adapt, is_memory_out = self.trainer.device.type == "cpu", False
        traced = self.log.profile if self.ranks.is_first else 0
        profile = StepProfile(self.step, self.steps, traced, self.trainer.device)
        try:
            with Interrupt() as interrupt:
                while True:
                    stop = self.ranks.largest(self._wants_to_stop(interrupt))
                    if self.step != self._saved_step and (stop or self._is_checkpoint_due()):
                        self._save()
                    if stop:
                        raise self._stop(stop)
                    if self._is_evaluation_due():
                        self._evaluate()
                        continue  # a signal may have come meanwhile
                    if self.step == self.steps:
                        break
                    values, schedules = profile.step(self.trainer.step, self.step)
                    self.step += 1
                    self.monitor.advance()
                    if adapt:
                        threads.adapt(self.step)
                    if self._is_due(self.log.metrics_every):
                        self._record(values, schedules)
                    if profile.is_due(self.step):
                        self._write_profile(profile)
        except torch.OutOfMemoryError:
            is_memory_out = True  # here the traceback still holds the failed step's tensors
        except RuntimeError as error:
            if self.ranks.size == 1 or not is_lost_connection(error):
                raise
            is_open = self.step and self.step != self._saved_step
            if is_open and not self.trainer.is_sharded:  # weights are those after a whole step
                self._save()
            absent = self.ranks.absent(error)  # meanwhile the first process saves
            last = self.checkpoints.files()
            newest = str(last[-1]) if last else "none"
            raise UserError(describe_loss(error, newest, absent)) from error
        except NonFiniteLoss as error:
            if not self.ranks.is_first:
                raise SaidElsewhere from error
            raise UserError(self._describe_nonfinite(error)) from error
        finally:
            profile.stop()
            self.monitor.close()
        if is_memory_out:
            raise UserError(self._describe_memory())
        return time.perf_counter() - self._began

    def _wants_to_stop(self, interrupt: Interrupt) -> int:
        """The number of the signal that came, _OVERTIME, or 0."""
        return _OVERTIME if time.monotonic() >= self._ends else int(interrupt.requested or 0)

    def _is_due(self, every: int) -> bool:
        """Whether `every` so many steps, and at the end; 0: EVENTS times a run."""
        every = every or max(1, self.steps // EVENTS)
        return self.step > 0 and (self.step % every == 0 or self.step == self.steps)

    def _is_checkpoint_due(self) -> bool:
        longest = 60 * self.log.checkpoint_minutes or math.inf
        is_old = time.monotonic() - self._saved_at >= longest
        return is_old or self._is_due(self.log.checkpoint_every)

    def _save(self) -> None:
        self.trainer.check_finite()
        self._saved_step, self._saved_at = self.step, time.monotonic()
        state = self.trainer.state_dict()
        if not self.ranks.is_first:
            return
        state |= {"step": self.step, **self._about}
        self.checkpoints.save(self.step, {**state, "seconds": time.perf_counter() - self._began})
        self._saved_at = time.monotonic()
        self.monitor.restart_clock()

    def _is_evaluation_due(self) -> bool:
        is_open = self._knn_clips is not None and self.step not in self._evaluated
        return is_open and self._is_due(self.log.knn_every)

    def _evaluate(self) -> None:
        """By the first process; the others wait."""
        self.trainer.check_finite()
        self._evaluated.add(self.step)
        encoder = self.trainer.gather_evaluated()
        if not isinstance(self.monitor, Monitor):
            return
        assert self._knn_clips is not None
        accuracy = compute_online_knn(
            self.cache,
            encoder,
            *self._knn_clips,
            self.trainer.evaluation_dtype,
        )
        self.monitor.write(self.step, {"knn_top1": accuracy})
        self.monitor.print_line(f"step {self.step}: 1-NN accuracy {accuracy:.1%}")
        self.monitor.restart_clock()

    def _record(self, values: dict[str, torch.Tensor], schedules: ScheduleValues) -> None:
        self.trainer.check_finite()
        if not isinstance(self.monitor, Monitor):
            return
        numbers = {name: value.item() for name, value in values.items()}
        rate = self.monitor.rate()
        followed = "learning_rate", "weight_decay", *self.trainer.model.follows
        moving = {k: float(v) for k, v in asdict(schedules).items() if k in followed}
        machine = {"samples_per_second": rate, "threads": torch.get_num_threads()}
        reached = describe_load(self.trainer, rate)
        self.monitor.write(self.step, {**numbers, **moving, **machine, **reached})
        shown = {name: numbers[name] for name in numbers if name != "gradient_norm"}
        shown |= {"lr": schedules.learning_rate}
        if CEILING in reached:
            shown["of ceiling"] = reached[CEILING]
        self.monitor.show_progress(self.step, rate, shown)

    def _write_profile(self, profile: StepProfile) -> None:
        assert isinstance(self.monitor, Monitor)
        parts = profile.write(self.folder)
        self.monitor.write(self.step, {f"milliseconds_{name}": ms for name, ms in parts.items()})
        words = ", ".join(f"{name} {ms:.3g} ms" for name, ms in parts.items())
        self.monitor.print_line(f"a step's parts: {words}; {self.folder / TRACE} has the trace")
        self.monitor.restart_clock()

    def _stop(self, stop: int) -> Interrupted:
        """What ends the run, in the first process with a sentence."""
        status = 128 + stop
        if stop == _OVERTIME:  # torchrun would begin again after any status but 0
            status = 0 if "TORCHELASTIC_RUN_ID" in os.environ else TRY_AGAIN
        if not self.ranks.is_first:
            return Interrupted("", status)
        hours = f"--max_hours {self.trainer.config.max_hours}"
        name = hours if stop == _OVERTIME else signal.Signals(stop).name
        return Interrupted(
            f"Stopped by {name} after step {self.step}; {self.checkpoints.path(self.step)} is "
            "saved. The same command resumes the run.",
            status,
        )

    def _describe_memory(self) -> str:
        config, parts = self.trainer.config, None
        if self.ranks.size == 1:  # others would wait for this one
            self.trainer.optimizer.zero_grad()
            parts = self.trainer.find_fitting_parts(self.step)
        remedy = f"--accumulate {parts or 2 * config.accumulate}"
        tried = "which fits" if parts else "for example"
        return (
            f"Step {self.step} needs more memory than the device has ({config.batch} clips in "
            f"{self.ranks.size * config.accumulate} parts). Give {remedy}, {tried}: the same step "
            "in less memory; the same command with it resumes the run."
        )

    def _describe_nonfinite(self, error: NonFiniteLoss) -> str:
        """A sentence for the user, and the names of the batch's clips in a file."""
        path = self.folder / f"nonfinite-step-{error.step}.txt"
        path.write_bytes(encode_text("\n".join(error.clips) + "\n"))
        shown, more = ", ".join(error.clips[:4]), len(error.clips) - 4
        last = self.checkpoints.files()
        return (
            f"{error}. Its batch held the clips {shown}{f' and {more} more' if more > 0 else ''} "
            f"(all in {path}). The last good checkpoint is "
            f"{last[-1] if last else 'none: the run had not written one yet'}; inspect the clips, "
            "or choose another --out with a lower optim.learning_rate."
        )


def describe_conditions(trainer: Trainer) -> dict[str, Any]:
    """What a resumed run may have otherwise, and what its results then depend on."""
    return {
        "steps": trainer.config.steps,
        "processes": trainer.ranks.size,
        "accumulate": trainer.config.accumulate,
        "sharding": trainer.config.sharding,
        "threads": torch.get_num_threads(),
        "device": str(trainer.device),
        "dtype": str(trainer.dtype).removeprefix("torch."),
        "torch": str(torch.__version__),
    }
