"""Runs as processes forked from this one, which has imported everything already."""

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from slim_fast.command import run_process


class Processes:
    """`work`, which returns an exit status, in `size` processes that find each other as if torchrun
    had started them; what they print is in the file `log`.
    """

    def __init__(self, size: int, log: Path, work: Callable[[], int]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        self.statuses: list[int | None] = [None] * size
        sys.stdout.flush()
        sys.stderr.flush()
        self.ids = [_fork({"RANK": str(rank), **shared}, log, work) for rank in range(size)]

    def send(self, number: signal.Signals, rank: int | None = None) -> None:
        """A signal to one process, or to all, as far as they have not ended."""
        for each, process in enumerate(self.ids):
            if rank in (None, each) and self._status(each) is None:
                os.kill(process, number)

    def wait(self, seconds: float) -> list[int]:
        """The exit statuses, -9 for SIGKILL and so on. Raises: TimeoutError, after killing all."""
        limit = time.monotonic() + seconds
        while any(self._status(rank) is None for rank in range(len(self.ids))):
            if time.monotonic() > limit:
                self.send(signal.SIGKILL)
                raise TimeoutError(f"no end after {seconds:.0f} s: {self.statuses}")
            time.sleep(0.002)
        return [status for status in self.statuses if status is not None]

    def _status(self, rank: int) -> int | None:
        if self.statuses[rank] is None:
            process, status = os.waitpid(self.ids[rank], os.WNOHANG)
            if process:
                self.statuses[rank] = os.waitstatus_to_exitcode(status)
        return self.statuses[rank]


def _fork(variables: dict[str, str], log: Path, work: Callable[[], int]) -> int:
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", 1, closefd=False) for n in (1, 2))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        torch.set_num_threads(1)
        os.environ.update(variables)
        status = run_process(work)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
