"""The processes of a run, one a device, as torchrun starts them."""

import atexit
import gc
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from slim_fast.errors import SaidElsewhere, UserError
from slim_fast.training.output import logger

T = TypeVar("T")
_PATIENCE = timedelta(hours=2)  # the others wait while the first evaluates, or generates data
_JOINING = timedelta(minutes=10)  # from the first process' begin to the last one's
_ROLL_CALL = 5.0  # seconds in which those that wait have noticed that one does not come
_SPOKEN, _MET = "slim_fast/spoken", "slim_fast/met"


@dataclass(frozen=True)
class Ranks:
    """This process among those of a run, all of which call the same methods in the same order.

    Alone by default: then every method is what it is for one process, without torch.distributed.
    """

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None
    """For tensors on the processes' devices."""
    control: dist.ProcessGroup | None = None
    """For what they tell each other, on the host."""
    store: Any = None
    """What they look each other up in."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes, evaluates and speaks."""
        return self.rank == 0

    def split(self, batch: int, accumulate: int) -> list[slice]:
        """The `accumulate` parts of a batch that this process computes, one after the other.

        Raises: UserError for a batch that cannot be divided.
        """
        parts = self.size * accumulate
        if batch % parts:
            whole = max(1, batch // parts) * parts
            raise UserError(
                f"batch={batch} cannot be divided into {parts} equal parts (processes x "
                f"accumulate = {self.size} x {accumulate}); take {whole}, for example."
            )
        each = batch // parts
        first = self.rank * accumulate
        return [slice(n * each, (n + 1) * each) for n in range(first, first + accumulate)]

    def share(self, value: T) -> T:
        """The first process' `value`, in all."""
        if self.size == 1:
            return value
        values: list[Any] = [value if self.is_first else None]
        dist.broadcast_object_list(values, group=self.control, group_src=0)
        return values[0]

    def first_does(self, work: Callable[[], T]) -> T:
        """What `work` returns in the first process, the only one to do it.

        Raises: what it raises there; SaidElsewhere in the others.
        """
        if self.size == 1:
            return work()
        if not self.is_first:
            is_done, value = self.share((False, None))
            if not is_done:
                raise SaidElsewhere
            return value  # type: ignore[return-value]
        try:
            result = work()
        except BaseException:
            self.share((False, None))
            raise
        return self.share((True, result))[1]

    def after_first(self, work: Callable[[], T]) -> T:
        """What `work` returns here; the first process does it before the others do."""
        done: list[T] = []
        self.first_does(lambda: done.append(work()))
        return done[0] if done else work()

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers."""
        if self.size == 1:
            return number
        value = torch.tensor(number)
        dist.all_reduce(value, dist.ReduceOp.MAX, group=self.control)
        return int(value)

    def mean(self, values: Tensor) -> Tensor:
        """The processes' mean of a tensor on their devices."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total, group=self.group)
        return total / self.size

    def absent(self, error: RuntimeError) -> list[int]:
        """Of an operation that timed out, the processes that do not say so too within a few
        seconds: they hang. Of others none: torchrun, which ends all, names those that have ended.
        """
        if "timed out" not in str(error).lower():
            return []
        others = [rank for rank in range(self.size) if rank != self.rank]
        until = time.monotonic() + _ROLL_CALL
        with suppress(RuntimeError):  # the process that keeps the store has ended
            self.store.set(f"{_MET}/{self.rank}", "")
            while others and time.monotonic() < until:
                others = [rank for rank in others if not self.store.check([f"{_MET}/{rank}"])]
                time.sleep(0.05)
            return others
        return []

    def speaks_first(self) -> bool:
        """Whether no other process has called this before."""
        with suppress(RuntimeError):  # the process that keeps the store has ended
            return self.store is None or self.store.add(_SPOKEN, 1) == 1
        return True


@contextmanager
def join_ranks(device: torch.device, wait: float = 30.0) -> Iterator[Ranks]:
    """The processes that torchrun started with this one; alone where it started none.

    wait: minutes after which an operation on tensors fails to which another process does not come.

    An error that several meet, directly or because another process has ended, leaves the one that
    met it first, and others as SaidElsewhere. Only the first process warns and reports progress.
    Raises: UserError when they do not find each other.
    """
    size = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if size == 1:
        yield Ranks()
        return
    ranks = _join(device, timedelta(minutes=wait))
    silent = not ranks.is_first
    before, logger.disabled = logger.disabled, silent or logger.disabled
    try:
        with warnings.catch_warnings():
            if silent:
                warnings.simplefilter("ignore")
            yield ranks
    except SaidElsewhere:
        raise
    except UserError as error:
        if ranks.speaks_first():
            raise
        raise SaidElsewhere from error
    except RuntimeError as error:
        if not is_lost_connection(error):
            raise
        if ranks.speaks_first():
            absent = ranks.absent(error)
            raise UserError(describe_loss(error, "if there is one", absent)) from error
        raise SaidElsewhere from error
    finally:
        logger.disabled = before
        with suppress(RuntimeError):
            dist.destroy_process_group()


def _join(device: torch.device, wait: timedelta) -> Ranks:
    # the threads that communicate end with their groups, which cycles of trainers hold beyond
    # destroy_process_group: one that frees a tensor while Python ends aborts the process
    atexit.register(gc.collect)
    try:
        store, rank, size = next(rendezvous("env://", timeout=_JOINING))
        # torchrun's store outlives a restart, and with it the addresses of processes that ended
        store = PrefixStore(f"restart {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(
            backend,
            store=store,
            rank=rank,
            world_size=size,
            timeout=wait,
            device_id=device if device.type == "cuda" else None,
        )
        group = dist.group.WORLD
        control = dist.new_group(backend="gloo", timeout=_PATIENCE)
        ranks = Ranks(rank, size, group, control, store)
        ranks.largest(0)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The processes of this run do not find each other ({_first_line(error)}): start them "
            "by `torchrun --nproc-per-node N -m slim_fast.pretrain ...`."
        ) from error
    return ranks


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether a collective failed because another process has ended or cannot be reached."""
    words = ("gloo", "nccl", "connection", "socket", "peer", "timed out", "remote process")
    return isinstance(error, dist.DistError) or any(w in str(error).lower() for w in words)


def describe_loss(error: RuntimeError, checkpoint: str, absent: Sequence[int]) -> str:
    """Such an error as sentences; `checkpoint` is the newest one, `absent` who does not answer."""
    missing = ", ".join(map(str, absent))
    who = f" No answer from rank {missing}: hanging, or ended." if absent else ""
    return (
        f"Another process of the run has ended or cannot be reached ({_first_line(error)}).{who} "
        f"The same command resumes the run from its last checkpoint ({checkpoint})."
    )


def _first_line(error: Exception) -> str:
    """Of an error of several lines and sentences the first, without the place in C++."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return line.rsplit("cc:", 1)[-1].split("] ", 1)[-1].split(". ")[0].rstrip(".")[:160]
