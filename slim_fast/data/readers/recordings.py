"""Data sets of many files: their recordings are read in parallel, and what was read is kept.

Recordings are read in batches. With `Options.kept` each batch is also written to that folder, from
which a conversion that was stopped takes it when it is started again.
"""

import hashlib
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from slim_fast.data.clips import Clip
from slim_fast.data.readers.kept import KeptBatches, write_batch
from slim_fast.data.readers.source import Options, Problem
from slim_fast.errors import UserError

BATCH = 16  # recordings handed to a worker process at a time


@dataclass(frozen=True)
class Recording:
    """Files to read, and what is known of the clip before; fields as in `Clip`."""

    files: tuple[Path, ...]
    name: str
    label: int = -1
    subject: int = -1
    camera: int = -1
    setup: int = -1
    split: Mapping[str, str] = field(default_factory=dict)

    def clip(self, positions: np.ndarray) -> Clip:
        """The clip of these positions (T, V, C, M)."""
        numbers = self.label, self.subject, self.camera, self.setup
        return Clip(positions, self.name, *numbers, self.split)


Read = Callable[[Recording], Clip | list[Clip | Problem]]


class WorkerEndedError(UserError):
    """A worker process was ended by the system; what was read before stays kept."""


def read_recordings(
    recordings: Sequence[Recording], read: Read, options: Options, problems: list[Problem]
) -> Iterator[Clip]:
    """Read the clips of `recordings`, in their order.

    Args:
        read: reads one recording; a function that pickles. It raises UserError or OSError for a
            recording that cannot be read, which goes to `problems`.
        options: `workers` processes read; `kept` is the folder of what was read before.

    Raises: WorkerEndedError when a worker process ends early.
    """
    for results in _read_batches(recordings, read, options):
        for result in results:
            if isinstance(result, Problem):
                problems.append(result)
            else:
                yield result


def explain_frame(recording: Recording, file: Path, error: OSError | UserError) -> Problem:
    """Say why a file of one frame of a recording was taken for an empty frame."""
    reason = error.strerror if isinstance(error, OSError) else error
    name = f"{recording.name}/{file.name}"
    return Problem(name, f"taken for an empty frame: {reason}", is_recording=False)


def _read_batches(
    recordings: Sequence[Recording], read: Read, options: Options
) -> Iterator[list[Clip | Problem]]:
    batches = [recordings[first : first + BATCH] for first in range(0, len(recordings), BATCH)]
    kept = KeptBatches(options.kept, _fingerprint(recordings, read)) if options.kept else None
    run = partial(_read_batch, read)
    if options.workers <= 1:
        for number, batch in enumerate(batches):
            found = kept.load(number) if kept else None
            yield run(batch, kept.path(number) if kept else None) if found is None else found
        return
    # bounded, so that fast workers do not fill the memory ahead of the writer
    queue: deque[list[Clip | Problem] | Future[list[Clip | Problem]]] = deque()
    pool = ProcessPoolExecutor(
        options.workers, mp_context=get_context("spawn"), initializer=_ignore_interrupt
    )
    try:
        for number, batch in enumerate(batches):
            found = kept.load(number) if kept else None
            queue.append(found or pool.submit(run, batch, kept.path(number) if kept else None))
            if len(queue) > 2 * options.workers:
                yield _wait(queue.popleft())
        while queue:
            yield _wait(queue.popleft())
    except BrokenProcessPool as error:
        raise WorkerEndedError(
            "a worker process ended early (out of memory?): try fewer --workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _wait(
    results: list[Clip | Problem] | Future[list[Clip | Problem]],
) -> list[Clip | Problem]:
    return results.result() if isinstance(results, Future) else results


def _ignore_interrupt() -> None:
    # Ctrl-C reaches the workers too; the main process ends them
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read_batch(
    read: Read, recordings: Sequence[Recording], keep_at: Path | None
) -> list[Clip | Problem]:
    results: list[Clip | Problem] = []
    for recording in recordings:
        try:
            result = read(recording)
            found = [result] if isinstance(result, Clip) else result
            results += [_narrow(item) if isinstance(item, Clip) else item for item in found]
        except OSError as error:
            results.append(Problem(recording.name, f"unreadable ({error.strerror})"))
        except UserError as error:
            results.append(Problem(recording.name, str(error)))
    if keep_at is not None:
        write_batch(keep_at, results)
    return results


def _narrow(clip: Clip) -> Clip:
    # as caches are, so that what is kept takes half the room
    with np.errstate(over="ignore", invalid="ignore"):
        return replace(clip, positions=np.asarray(clip.positions).astype(np.float32, copy=False))


def _fingerprint(recordings: Sequence[Recording], read: Read) -> str:
    """Differs when a file changes, or what is read of the files."""
    found = hashlib.sha256()
    inner = read.func if isinstance(read, partial) else read
    settings = (read.args, sorted(read.keywords.items())) if isinstance(read, partial) else ()
    found.update(repr((inner.__module__, inner.__qualname__, settings, BATCH)).encode())
    for recording in recordings:
        for file in recording.files:
            try:
                status = os.stat(file)
                state = status.st_size, status.st_mtime_ns
            except OSError:
                state = -1, -1
            found.update(repr((os.path.abspath(file), state)).encode("utf-8", "surrogatepass"))
        facts = recording.name, recording.label, dict(recording.split)
        found.update(repr((*facts, recording.subject, recording.camera)).encode("utf-8", "replace"))
    return found.hexdigest()
