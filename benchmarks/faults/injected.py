"""The faults: each is done to a run, which then resumes until it is finished."""

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.processes import Processes
from benchmarks.faults.smallest import start

GRACE = 30.0
"""Seconds that a run has to end by itself after a fault; torchrun waits as long."""
_PATIENCE = 300.0
_NOBODY = 65534


@dataclass
class Trial:
    """A run under way to which a fault is done; `random` decides when and where."""

    data: Path
    out: Path
    size: int
    random: random.Random
    seconds: float
    """How long the undisturbed run takes."""

    @property
    def log(self) -> Path:
        return self.out.with_suffix(".log")

    def start(self, prepare: Callable[[], None] | None = None) -> Processes:
        return start(self.data, self.out, self.size, self.log, prepare)

    def finish(self) -> None:
        """Resume until the run is done. Raises: RuntimeError if it does not end well."""
        statuses = self.start().wait(_PATIENCE)
        expect(not any(statuses), f"the resumed run ended with {statuses}")

    def wait(self) -> None:
        """Until a random moment of a run."""
        time.sleep(self.random.uniform(0, self.seconds))

    def interrupt(self) -> None:
        """Leave an unfinished run with checkpoints: kill it once it has written some."""
        processes, wanted = self.start(), self.random.randint(1, 5)
        limit = time.monotonic() + _PATIENCE
        while len(written(self.out)) < min(wanted, 3) and time.monotonic() < limit:
            time.sleep(0.005)
        processes.send(signal.SIGKILL)
        processes.wait(GRACE)

    def words(self) -> str:
        """What the run has said."""
        if not self.log.exists():
            return ""
        return self.log.read_text(encoding="utf-8", errors="replace")


def expect(holds: bool, sentence: str) -> None:
    """Raises: RuntimeError with the sentence unless it holds."""
    if not holds:
        raise RuntimeError(sentence)


def written(out: Path) -> list[Path]:
    """Checkpoints in the folder of a run, the oldest first."""
    return sorted((out / "checkpoints").glob("step-*.pt"))


def kill_all(trial: Trial) -> str:
    """kill -9 of every process at a random moment."""
    processes = trial.start()
    trial.wait()
    processes.send(signal.SIGKILL)
    return str(processes.wait(GRACE))


def kill_one(trial: Trial) -> str:
    """kill -9 of one process of several: the others end by themselves, one says why.

    Before they have found each other they wait for the killed one, until torchrun kills them too.
    """
    trial.size = 2
    processes = trial.start()
    trial.wait()
    has_begun = bool(trial.words())
    processes.send(signal.SIGKILL, trial.random.randrange(trial.size))
    try:
        statuses = processes.wait(GRACE)
    except TimeoutError:
        if has_begun:
            raise
        statuses = processes.wait(GRACE)
    expect(trial.words().count("error: ") <= 1, "more than one process said what was wrong")
    expect(set(statuses) <= {-9, 0, 2}, f"exit statuses {statuses}")
    return str(statuses)


def terminate(trial: Trial) -> str:
    """SIGTERM to all or one: a checkpoint of the step under way, within the grace time."""
    processes = trial.start()
    trial.wait()
    processes.send(signal.SIGTERM, trial.random.choice([None, 0, trial.size - 1]))
    begin = time.monotonic()
    statuses = processes.wait(GRACE)
    expect(set(statuses) <= {0, 143, -15, 2}, f"exit statuses {statuses}")
    return f"{statuses} after {time.monotonic() - begin:.1f} s"


def fill_disk(trial: Trial) -> str:
    """A small file system that is full from a random moment on; then it is emptied."""
    place = trial.out.parent / "disk"
    with mounted(place, "size=3m") as is_there:
        expect(is_there, "needs the right to mount a tmpfs")
        home, trial.out = trial.out, place / "run"
        trial.out.mkdir()
        processes, ballast = trial.start(), place / "ballast"
        trial.wait()
        fill(ballast, trial.random.randrange(1 << 16))
        statuses = processes.wait(_PATIENCE)
        expect("Traceback" not in trial.words(), "a traceback")
        ballast.unlink()
        shutil.copy(trial.log, home.with_suffix(".log"))
        shutil.copytree(trial.out, home, dirs_exist_ok=True)
        trial.out = home
    return str(statuses)


def limit_files(trial: Trial) -> str:
    """No file may grow beyond a random size (a quota)."""
    most = trial.random.randrange(1, 40_000)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (most, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        )

    statuses = trial.start(limit).wait(_PATIENCE)
    return f"{most} bytes: {statuses}"


def close_folder(trial: Trial) -> str:
    """The run folder and those in it are read-only, for a process that is not root's."""
    trial.interrupt()
    closed = [trial.out, *(p for p in trial.out.rglob("*") if p.is_dir())]
    for folder in closed:
        folder.chmod(0o555)

    def drop_rights() -> None:
        if os.geteuid() == 0:
            os.setuid(_NOBODY)

    trial.log.touch()
    trial.log.chmod(0o666)
    statuses = trial.start(drop_rights).wait(_PATIENCE)
    for folder in closed:
        folder.chmod(0o755)
    expect(2 in statuses, f"a run in a read-only folder ended with {statuses}")
    expect("Traceback" not in trial.words(), "a traceback")
    return str(statuses)


def truncate(trial: Trial) -> str:
    """The newest checkpoint, or several, end early."""
    return damage(trial, lambda content: content[: trial.random.randrange(len(content))])


def flip(trial: Trial) -> str:
    """A bit of the newest checkpoint, or of several, is another."""

    def change(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[trial.random.randrange(len(content))] ^= 1 << trial.random.randrange(8)
        return bytes(changed)

    return damage(trial, change)


def damage(trial: Trial, change: Callable[[bytes], bytes]) -> str:
    trial.interrupt()
    files = written(trial.out)
    hit = files[trial.random.randint(1, len(files)) :] or files[-1:]
    for file in hit if len(files) > 1 else []:
        file.write_bytes(change(file.read_bytes()))
    return f"{len(hit)} of {len(files)} checkpoints"


def jump_clock(trial: Trial) -> str:
    """The wall clock jumps by years, forth and back, all the time."""
    jumps, real = random.Random(trial.random.random()), time.time

    def jump() -> None:
        time.time = lambda: real() + jumps.uniform(-1e9, 1e9)

    processes = trial.start(jump)
    trial.wait()
    processes.send(signal.SIGKILL)
    return str(processes.wait(GRACE))


def slow_down(trial: Trial) -> str:
    """One process of several stands still for a while."""
    trial.size = 2
    processes = trial.start()
    trial.wait()
    rank = trial.random.randrange(trial.size)
    processes.send(signal.SIGSTOP, rank)
    time.sleep(trial.random.uniform(0.1, 1.0))
    processes.send(signal.SIGCONT, rank)
    statuses = processes.wait(_PATIENCE)
    expect(not any(statuses), f"exit statuses {statuses}")
    return str(statuses)


FAULTS: dict[str, Callable[[Trial], str]] = {
    "kill -9": kill_all,
    "kill -9 of one process of two": kill_one,
    "SIGTERM": terminate,
    "full disk": fill_disk,
    "largest file size": limit_files,
    "read-only folders": close_folder,
    "truncated checkpoints": truncate,
    "flipped bits in checkpoints": flip,
    "clock that jumps": jump_clock,
    "slow process of two": slow_down,
}


def fill(path: Path, left: int) -> None:
    """A file that takes a file system's room but for `left` bytes."""
    state = os.statvfs(path.parent)
    size = max(0, state.f_bavail * state.f_frsize - left)
    with path.open("wb") as file, suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, max(1, size))


@contextmanager
def mounted(place: Path, options: str) -> Iterator[bool]:
    """A tmpfs there, and whether that was allowed."""
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    try:
        is_there = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        is_there = False
    try:
        yield is_there
    finally:
        if is_there:
            subprocess.run(["umount", str(place)], check=True, capture_output=True)
