"""The sides of a comparison, each in a process of its own, run interleaved."""

import contextlib
import ctypes
import gc
import math
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.records.recorder import quartiles

_STARTS = [m for m in ("forkserver", "spawn") if m in multiprocessing.get_all_start_methods()]
_CONTEXT: Any = multiprocessing.get_context(_STARTS[0])
if _STARTS[0] == "forkserver":
    _CONTEXT.set_forkserver_preload(["torch", "slim_fast.training.trainer"])


@dataclass(frozen=True)
class Sample:
    """One run of one side, or the mean of several."""

    seconds: float
    value: Any
    """What the last one returned."""
    peak: int
    """Bytes by which the peak of the side's memory has risen since it was built: of the process'
    resident memory (ru_maxrss; 0 on Windows), on a GPU of the allocated.
    """


class Side(Protocol):
    """What is timed."""

    def run(self, times: int = 1) -> Sample:
        """Run it, `times` in a row."""


class Worker:
    """One side: `make(**arguments)` builds it in a new process and returns what each `run` calls.

    Memory, threads and what the allocator has learned are the side's own. `keep`: call
    `slim_fast.training.machine.keep_freed_memory` first, as the trainer does.
    """

    def __init__(
        self, make: Callable[..., Callable[..., Any]], threads: int, *, keep: bool, **arguments: Any
    ) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(
            target=_serve, args=(theirs, make, keep, threads, arguments), daemon=True
        )
        self._process.start()
        theirs.close()
        self._receive()

    def _receive(self) -> Any:
        try:
            reply = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(
                f"the process died (exit status {self._process.exitcode}); was memory short?"
            ) from None
        if isinstance(reply, str):
            raise RuntimeError(reply)
        return reply

    def run(self, times: int = 1, *given: Any) -> Sample:
        """Run the side, `times` in a row, on the arguments given."""
        self._pipe.send((times, given))
        sample: Sample = self._receive()
        return sample

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


def _serve(
    pipe: Connection,
    make: Callable[..., Callable[..., Any]],
    keep: bool,
    threads: int,
    arguments: Any,
) -> None:
    import torch

    from slim_fast.training.machine import keep_freed_memory

    try:
        torch.set_num_threads(threads)
        if keep:
            keep_freed_memory()
        run = make(**arguments)
        cuda = arguments.get("device") == "cuda"
        peak = torch.cuda.max_memory_allocated if cuda else _peak_resident
        wait = torch.cuda.synchronize if cuda else lambda: None
        wait()
        if not cuda:
            _forget_building()
        before = peak()
        pipe.send(None)
        while True:
            times, given = pipe.recv()
            begin = time.perf_counter()
            for _ in range(times):
                value = run(*given)
            wait()
            seconds = (time.perf_counter() - begin) / times
            pipe.send(Sample(seconds, value, peak() - before))
    except EOFError:
        return
    except Exception:
        pipe.send(traceback.format_exc())


def _forget_building() -> None:
    """Give back the memory that building a side has freed, and let the peak begin anew."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # Linux with glibc only
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def _peak_resident() -> int:
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def workers(
    sides: Mapping[str, Callable[..., Any]], threads: int, **arguments: Any
) -> Iterator[dict[str, Worker]]:
    """All sides, built with the same arguments and keeping freed memory."""
    built: dict[str, Worker] = {}
    try:
        for name, make in sides.items():
            built[name] = Worker(make, threads, keep=True, **arguments)
        yield built
    finally:
        for worker in built.values():
            worker.close()


@dataclass(frozen=True)
class Rounds:
    """The timed rounds of all sides, in the order they were run."""

    seconds: dict[str, list[float]]
    first: dict[str, Any]
    """What the first runs returned."""
    peak_bytes: dict[str, int]

    def metrics(self, baseline: str = "baseline", ours: str = "ours") -> dict[str, Any]:
        """Quartiles of both sides' seconds, and of baseline / ours round by round."""
        mine, theirs = self.seconds[ours], self.seconds[baseline]
        return {
            "seconds": {"ours": quartiles(mine), "baseline": quartiles(theirs)},
            "speedup": quartiles(np.divide(theirs, mine)),
            "rounds": len(mine),
        }

    def peaks(self, baseline: str = "baseline", ours: str = "ours") -> dict[str, int]:
        return {"ours": self.peak_bytes[ours], "baseline": self.peak_bytes[baseline]}


def interleave(
    benchmark: Any,
    sides: Mapping[str, Side],
    rounds: int,
    least_seconds: float = 0,
    shown: str = "ours",
) -> Rounds:
    """Run all sides untimed, then `rounds` times interleaved; `shown` is in pytest's table.

    least_seconds: a side that takes less runs several times in a row, as a stream of calls would,
    and counts as their mean; an untimed run before drives out what the others left in the caches.
    """
    first = {name: worker.run() for name, worker in sides.items()}
    warm = {name: worker.run().seconds for name, worker in sides.items()} if least_seconds else {}
    times = {name: max(1, math.ceil(least_seconds / warm[name])) if warm else 1 for name in sides}
    samples: dict[str, list[Sample]] = {name: [] for name in sides}

    def run_side(name: str) -> None:
        if times[name] > 1 or (warm and warm[name] < 1):
            sides[name].run()
        samples[name].append(sides[name].run(times[name]))

    def others() -> None:
        for name in sides:
            if name != shown:
                run_side(name)

    benchmark.pedantic(lambda: run_side(shown), setup=others, rounds=rounds, warmup_rounds=0)
    seconds = {name: [sample.seconds for sample in taken] for name, taken in samples.items()}
    peaks = {name: max(s.peak for s in (first[name], *taken)) for name, taken in samples.items()}
    return Rounds(seconds, {name: sample.value for name, sample in first.items()}, peaks)
