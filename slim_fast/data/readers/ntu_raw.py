"""NTU RGB+D as distributed: a folder of .skeleton text files, one a clip.

A file is whitespace-separated numbers: the frame count, then for each frame the body count, then
for each body its tracking id, nine state values, the joint count, and twelve values a joint, the
first three being x, y, z in metres.
"""

import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from stat import S_ISREG

import numpy as np
from einops import rearrange

from slim_fast.data.clips import Clip
from slim_fast.data.readers.files import find_files
from slim_fast.data.readers.ntu import ACTIONS, EXAMPLE, parse_ntu_name, resembles_ntu_name
from slim_fast.data.readers.ntu_people import Bodies, select_people
from slim_fast.data.readers.source import Options, Problem, Reader, Source
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology

ENDING = ".skeleton"
JOINTS, JOINT_VALUES, BODY_VALUES = 25, 12, 10
MAX_FILE_BYTES, MAX_FRAMES, MAX_BODIES = 256 << 20, 100_000, 200
BATCH = 16  # files handed to a worker process at a time


def parse_skeleton(text: bytes) -> tuple[int, Bodies]:
    """(frame count, bodies) of a .skeleton file. Raises: UserError for a damaged one."""
    tokens = text.split()
    frames: dict[int, list[int]] = {}
    values: dict[int, list[bytes]] = {}
    try:
        count, i = int(tokens[0]), 1
        if not 0 <= count <= MAX_FRAMES:
            raise ValueError
        for frame in range(count):
            i += 1
            for _ in range(int(tokens[i - 1])):
                body = int(tokens[i])
                joints = int(tokens[i + BODY_VALUES])
                if joints != JOINTS:
                    raise UserError(f"{joints} joints instead of {JOINTS}")
                i += BODY_VALUES + 1
                end = i + JOINTS * JOINT_VALUES
                if end > len(tokens):
                    raise IndexError
                tracked = frames.setdefault(body, [])
                if len(frames) > MAX_BODIES:
                    raise UserError(
                        f"more than {MAX_BODIES} tracked bodies: cut it into shorter recordings"
                    )
                # some files have a body twice in a frame
                if not tracked or tracked[-1] != frame:
                    tracked.append(frame)
                    coordinates = values.setdefault(body, [])
                    for axis in range(3):
                        coordinates += tokens[i + axis : end : JOINT_VALUES]
                i = end
        bodies = {}
        for body, tracked in frames.items():
            numbers = np.array(list(map(float, values[body]))).reshape(len(tracked), 3, JOINTS)
            bodies[body] = np.array(tracked), rearrange(numbers, "f c v -> f v c")
    except UserError:
        raise
    except IndexError:
        raise UserError("truncated" if tokens else "an empty file") from None
    except ValueError:
        raise UserError("not a skeleton file") from None
    return count, bodies


def read_recording(path: Path) -> Clip | Problem:
    """Read the clip of a .skeleton file, or say why there is none."""
    name = parse_ntu_name(path.stem)
    if name is not None and not 1 <= name.action <= len(ACTIONS):
        return Problem(path.stem, f"action outside A001..A{len(ACTIONS)}")
    if name is None and resembles_ntu_name(path.stem):
        return Problem(
            path.stem,
            f"a name nearly like {EXAMPLE}: correct it, or choose quite another for no label",
        )
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
            return Problem(path.stem, "not a skeleton file")
        count, bodies = parse_skeleton(path.read_bytes())
    except OSError as error:
        return Problem(path.stem, f"unreadable ({error.strerror})")
    except UserError as error:
        return Problem(path.stem, str(error))
    people = select_people(bodies)
    if not people:
        return Problem(path.stem, "no person in any frame")
    positions = np.zeros((count, JOINTS, 3, len(people)), np.float32)
    for person, (frames, joints) in enumerate(people.values()):
        positions[frames, :, :, person] = joints
    if name is None:
        return Clip(positions, path.stem)
    return Clip(
        positions, path.stem, name.action - 1, name.subject, name.camera, name.setup, name.splits
    )


def _recognises(path: Path) -> bool:
    return (
        path.suffix.lower() == ENDING
        if path.is_file()
        else next(find_files(path, ENDING), None) is not None
    )


def _find(path: Path, problems: list[Problem]) -> list[Path]:
    # each recording once; of a file and the links to it, the file's own name counts
    found = [path] if path.is_file() else list(find_files(path, ENDING, problems))
    real = {
        os.path.realpath(file): file
        for file in sorted(found, key=lambda file: (not file.is_symlink(), file))
    }
    files: dict[str, Path] = {}
    for file in sorted(real.values(), key=lambda file: (file.stem, file)):
        key = file.stem.upper() if parse_ntu_name(file.stem) else file.stem
        if key in files:
            problems.append(Problem(file.stem, "a second file of the same name"))
        else:
            files[key] = file
    return list(files.values())


def _read(path: Path, options: Options) -> Source:
    problems: list[Problem] = []
    files = _find(path, problems)
    actions = [
        name.action
        for name in map(parse_ntu_name, (file.stem for file in files))
        if name is not None
    ]
    classes = ACTIONS[:60] if max(actions, default=0) <= 60 else ACTIONS

    def clips() -> Iterator[Clip]:
        for result in (
            _in_processes(files, options.workers)
            if options.workers > 1
            else map(read_recording, files)
        ):
            if isinstance(result, Problem):
                problems.append(result)
            else:
                yield result

    return Source(
        options.topology or get_topology("ntu-25"),
        options.channels or "xyz",
        clips(),
        classes if actions else (),
        len(files),
        problems,
    )


def _in_processes(files: Sequence[Path], workers: int) -> Iterator[Clip | Problem]:
    # bounded, so that fast workers do not fill the memory ahead of the writer
    queue: deque[Future[list[Clip | Problem]]] = deque()
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_ignore_interrupt
    )
    try:
        for first in range(0, len(files), BATCH):
            queue.append(pool.submit(_read_batch, files[first : first + BATCH]))
            if len(queue) > 2 * workers:
                yield from queue.popleft().result()
        while queue:
            yield from queue.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process ended early (out of memory?): try fewer --workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupt() -> None:
    # Ctrl-C reaches the workers too; the main process ends them
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read_batch(files: Sequence[Path]) -> list[Clip | Problem]:
    return [read_recording(file) for file in files]


READER = Reader("a folder of NTU .skeleton files", _recognises, _read)
