"""Number of threads: at most this process' processors, fewer while others need them.

Threads of one matrix multiplication wait for the slowest. Where another process holds a processor,
that one waits for a whole slice of the scheduler, and the others with it: two threads beside one
busy process are slower than one.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

_INTERVAL = 1.0  # seconds from one look at the machine to the next
_MAX_WAITING = 0.2  # of the time: how long the threads together may wait for a processor
_MIN_IDLE = 0.8  # processors that must be idle before another thread is taken
_IDLE_LOOKS = 10  # looks in a row that must find them idle


class ThreadAdapter:
    """Adapts PyTorch's number of threads to the kernel's count of waiting (Linux only).

    Args:
        fixed: the number stays, since sums in another order have other last bits; a warning is
            reported once, that fewer would be faster.
        report: takes a line for the user.
    """

    def __init__(
        self,
        fixed: bool,
        report: Callable[[str], None],
        read: Callable[[], tuple[float, float] | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fixed, self._report = fixed, report
        self._read, self._clock = read or read_cpu_times, clock
        self._most = torch.get_num_threads()
        self._quiet, self._is_reported = 0, False
        self._at, self._seen = clock(), self._read()

    def adapt(self, step: int) -> None:
        """Look at the machine, at most once a second, and take fewer threads or more."""
        wall = self._clock() - self._at
        if self._seen is None or wall < _INTERVAL or self._most == 1:
            return
        waited, idle = self._seen
        self._at, self._seen = self._clock(), self._read()
        if self._seen is None:
            return
        waiting, free = (self._seen[0] - waited) / wall, (self._seen[1] - idle) / wall
        now = torch.get_num_threads()
        self._quiet = self._quiet + 1 if free >= _MIN_IDLE else 0
        if now > 1 and waiting > _MAX_WAITING:
            self._change(step, max(1, now - max(1, round(waiting))))
        elif now < self._most and self._quiet >= _IDLE_LOOKS:
            self._quiet = 0
            self._change(step, now + 1)

    def _change(self, step: int, number: int) -> None:
        if self._fixed:
            if not self._is_reported:
                self._report(
                    "warning: other processes keep the threads waiting; --threads stays as "
                    "given, so that results stay the same bit for bit, though fewer would be "
                    "faster now"
                )
            self._is_reported = True
            return
        now = torch.get_num_threads()
        torch.set_num_threads(number)
        why = "other processes need the processors" if number < now else "processors are idle again"
        self._report(
            f"step {step}: {number} instead of {now} threads, because {why} (--threads N fixes "
            "the number)"
        )


def read_cpu_times() -> tuple[float, float] | None:
    """Seconds that threads here waited, summed, and that processors were idle; None if unknown."""
    try:
        waited = 0
        for task in Path("/proc/self/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                waited += int((task / "schedstat").read_text().split()[1])
        # cpu, user, nice, system, idle, iowait
        times = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        return waited / 1e9, (int(times[4]) + int(times[5])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def count_processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
