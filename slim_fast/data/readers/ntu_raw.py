"""NTU RGB+D as distributed: a folder of .skeleton text files, one a clip.

A file is whitespace-separated numbers: the frame count, then for each frame the body count, then for each body its
tracking id, nine state values, the joint count, and twelve values a joint, the first three being x, y, z in metres.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from slim_fast.data.clips import Clip
from slim_fast.data.readers.ntu import ACTIONS, parse_name
from slim_fast.data.readers.source import Options, Problem, Reader, Source
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology

JOINTS, JOINT_VALUES, BODY_VALUES = 25, 12, 10
MAX_PEOPLE = 2
MAX_FILE_BYTES, MAX_FRAMES = 256 << 20, 100_000
STRAY_FRAMES = 11
WIDE_FRAME, WIDE_SHARE = 0.8, 0.69754
BATCH = 16  # files handed to a worker process at a time

Bodies = dict[int, tuple[np.ndarray, np.ndarray]]  # tracking id -> frame numbers (F,), joints (F, 25, 3)


def parse_skeleton(text: bytes) -> tuple[int, Bodies]:
    """(frame count, bodies) of a .skeleton file. Raises UserError saying that it is truncated or something else."""
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
                seen = frames.setdefault(body, [])
                if not seen or seen[-1] != frame:
                    seen.append(frame)
                    coordinates = values.setdefault(body, [])
                    for axis in range(3):
                        coordinates += tokens[i + axis : end : JOINT_VALUES]
                i = end
        bodies = {}
        for body, seen in frames.items():
            numbers = np.array(list(map(float, values[body]))).reshape(len(seen), 3, JOINTS)
            bodies[body] = np.array(seen), numbers.transpose(0, 2, 1)
    except UserError:
        raise
    except IndexError:
        raise UserError("truncated" if tokens else "an empty file") from None
    except ValueError:
        raise UserError("not a skeleton file") from None
    return count, bodies


def choose_people(bodies: Bodies) -> Bodies:
    """The people among the tracked bodies, most motion first.

    The tracker also follows shadows and furniture. As is usual for this data set (thresholds of the pre-processing that
    most published results share), a body is taken for noise when it is tracked in at most 11 frames, or when in at
    least 69.754 % of its frames it is wider (extent in x) than 0.8 times its height (extent in y). Joints that are all
    zero or not finite are no body at all. Of what is left the two with most motion stay: variance over time, summed
    over coordinates, averaged over joints. A rule that would leave nobody does not apply.
    """
    people = {}
    for body, (frames, joints) in bodies.items():
        usable = np.isfinite(joints).all(axis=(1, 2)) & joints.any(axis=(1, 2))
        if usable.any():
            people[body] = frames[usable], joints[usable]
    lasting = {body: track for body, track in people.items() if len(track[0]) > STRAY_FRAMES} or people
    upright = {body: track for body, track in lasting.items() if not _is_wide(track[1])} or lasting
    by_motion = sorted(upright, key=lambda body: -float(upright[body][1].var(axis=0).sum(axis=-1).mean()))
    return {body: upright[body] for body in by_motion[:MAX_PEOPLE]}


def _is_wide(joints: np.ndarray) -> bool:
    extent = np.ptp(joints, axis=1)  # (F, 3)
    return float((extent[:, 0] > WIDE_FRAME * extent[:, 1]).mean()) >= WIDE_SHARE


def read_file(path: Path) -> Clip | Problem:
    """One clip, or why there is none."""
    name = parse_name(path.stem)
    if name is not None and not 1 <= name.action <= len(ACTIONS):
        return Problem(path.stem, f"action outside A001..A{len(ACTIONS)}")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return Problem(path.stem, "not a skeleton file")
        count, bodies = parse_skeleton(path.read_bytes())
    except OSError as error:
        return Problem(path.stem, f"unreadable ({error.strerror})")
    except UserError as error:
        return Problem(path.stem, str(error))
    people = choose_people(bodies)
    if not people:
        return Problem(path.stem, "nobody in any frame")
    positions = np.zeros((count, JOINTS, 3, len(people)), np.float32)
    for person, (frames, joints) in enumerate(people.values()):
        positions[frames, :, :, person] = joints
    if name is None:
        return Clip(positions, path.stem)
    return Clip(positions, path.stem, name.action - 1, name.subject, name.camera, name.setup, name.splits)


def _find(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.skeleton"), key=lambda file: (file.stem, file))


def _recognises(path: Path) -> bool:
    return path.suffix == ".skeleton" if path.is_file() else next(path.rglob("*.skeleton"), None) is not None


def _read(path: Path, options: Options) -> Source:
    problems: list[Problem] = []
    files: list[Path] = []
    for file in _find(path):
        if files and files[-1].stem == file.stem:
            problems.append(Problem(file.stem, "a second file of the same name"))
        else:
            files.append(file)
    actions = [name.action for name in map(parse_name, (file.stem for file in files)) if name is not None]
    classes = ACTIONS[:60] if max(actions, default=0) <= 60 else ACTIONS

    def clips() -> Iterator[Clip]:
        for result in _in_processes(files, options.workers) if options.workers > 1 else map(read_file, files):
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
    # a bounded queue: fast workers must not fill the memory ahead of the writer
    waiting: deque[Future[list[Clip | Problem]]] = deque()
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_ignore_interrupt)
    try:
        for first in range(0, len(files), BATCH):
            waiting.append(pool.submit(_read_batch, files[first : first + BATCH]))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UserError("a worker process ended early (out of memory?): try fewer --workers") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read_batch(files: Sequence[Path]) -> list[Clip | Problem]:
    return [read_file(file) for file in files]


READER = Reader("a folder of NTU .skeleton files", _recognises, _read)
