"""Two sides of a comparison, each in a process of its own, run in turns."""

from __future__ import annotations

import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

_STARTS = [m for m in ("forkserver", "spawn") if m in multiprocessing.get_all_start_methods()]
_CONTEXT: Any = multiprocessing.get_context(_STARTS[0])
if _STARTS[0] == "forkserver":
    _CONTEXT.set_forkserver_preload(["torch", "slim_fast.training.trainer"])


@dataclass(frozen=True)
class Sample:
    """One run of one side."""

    seconds: float
    value: Any
    peak: int
    """Bytes by which the process' peak resident memory has risen since its side was built (ru_maxrss; 0 on Windows)."""


class Worker:
    """One side: `make(**arguments)` builds it in a new process and returns what each `run` calls.

    Memory, threads and what the allocator has learned are the side's own. `keep`: call
    `slim_fast.training.machine.keep_freed_memory` first, as the trainer does.
    """

    def __init__(self, make: Callable[..., Callable[[], Any]], threads: int, *, keep: bool, **arguments: Any) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, make, keep, threads, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._receive()

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"the process died (exit status {self._process.exitcode}); was memory short?") from None
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer

    def run(self) -> Sample:
        """Run the side once."""
        self._pipe.send(True)
        sample: Sample = self._receive()
        return sample

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


def _serve(pipe: Connection, make: Callable[..., Callable[[], Any]], keep: bool, threads: int, arguments: Any) -> None:
    import torch

    from slim_fast.training.machine import keep_freed_memory

    try:
        torch.set_num_threads(threads)
        if keep:
            keep_freed_memory()
        run = make(**arguments)
        before = _peak_resident()
        pipe.send(None)
        while True:
            pipe.recv()
            begin = time.perf_counter()
            value = run()
            seconds = time.perf_counter() - begin
            pipe.send(Sample(seconds, value, _peak_resident() - before))
    except EOFError:
        return
    except Exception:
        pipe.send(traceback.format_exc())


def _peak_resident() -> int:
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextmanager
def workers(
    ours: Callable[..., Any], baseline: Callable[..., Any], threads: int, **arguments: Any
) -> Iterator[tuple[Worker, Worker]]:
    """Both sides, built with the same arguments and keeping freed memory."""
    pair: list[Worker] = []
    try:
        for make in (ours, baseline):
            pair.append(Worker(make, threads, keep=True, **arguments))
        yield pair[0], pair[1]
    finally:
        for worker in pair:
            worker.close()


@dataclass(frozen=True)
class Comparison:
    """The timed rounds of both sides, in the order they were run, and what their first runs returned."""

    ours: list[float]
    baseline: list[float]
    first: tuple[Any, Any]

    def figures(self) -> dict[str, Any]:
        """Quartiles of the seconds of both sides, and of baseline / ours round by round, which a slow drift leaves
        alone.
        """
        speedup = np.divide(self.baseline, self.ours)
        return {
            "seconds": {"ours": quartiles(self.ours), "baseline": quartiles(self.baseline)},
            "speedup": quartiles(speedup),
            "rounds": len(self.ours),
        }


def quartiles(values: Any) -> list[float]:
    """First quartile, median and third quartile."""
    return [float(f"{q:.6g}") for q in np.quantile(values, (0.25, 0.5, 0.75))]


def interleave(benchmark: Any, ours: Worker, baseline: Worker, rounds: int) -> Comparison:
    """Run both sides once untimed, then `rounds` times in turns. pytest-benchmark's table shows ours."""
    mine: list[Sample] = []
    theirs: list[Sample] = []
    benchmark.pedantic(
        lambda: mine.append(ours.run()),
        setup=lambda: theirs.append(baseline.run()),
        rounds=rounds,
        warmup_rounds=1,
    )
    return Comparison([s.seconds for s in mine[1:]], [s.seconds for s in theirs[1:]], (mine[0].value, theirs[0].value))
