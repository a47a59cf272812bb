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
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from slim_fast.data.clips import Clip
from slim_fast.data.readers.kept import KeptBatches, write_batch
from slim_fast.data.readers.source import Options, Problem
from slim_fast.errors import UserError

BATCH, BATCH_BYTES = 16, 32 << 20  # recordings, or their files, read by a process at a time


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
    states = [[_look(file) for file in recording.files] for recording in recordings]
    batches = _make_batches(recordings, [sum(size for size, _ in files) for files in states])
    fingerprint = _fingerprint(recordings, states, read)
    kept = KeptBatches(options.kept, fingerprint) if options.kept else None
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


def _look(file: Path) -> tuple[int, int]:
    # size and time of the last change, 0 for a file that is gone
    try:
        status = os.stat(file)
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _make_batches(
    recordings: Sequence[Recording], sizes: Sequence[int]
) -> list[Sequence[Recording]]:
    edges, filled = [0], 0
    for i, size in enumerate(sizes):
        if i > edges[-1] and (i - edges[-1] == BATCH or filled + size > BATCH_BYTES):
            edges.append(i)
            filled = 0
        filled += size
    return [recordings[first:end] for first, end in pairwise([*edges, len(recordings)])]


def _fingerprint(
    recordings: Sequence[Recording], states: Sequence[Sequence[tuple[int, int]]], read: Read
) -> str:
    """Differs when a file changes, or what is read of the files."""
    found = hashlib.sha256()
    inner = read.func if isinstance(read, partial) else read
    settings = (read.args, sorted(read.keywords.items())) if isinstance(read, partial) else ()
    limits = BATCH, BATCH_BYTES
    found.update(repr((inner.__module__, inner.__qualname__, settings, limits)).encode())
    for recording, files in zip(recordings, states, strict=True):
        paths = [os.path.abspath(file) for file in recording.files]
        numbers = recording.label, recording.subject, recording.camera, recording.setup
        facts = recording.name, numbers, sorted(recording.split.items()), paths, files
        found.update(repr(facts).encode("utf-8", "surrogatepass"))
    return found.hexdigest()
