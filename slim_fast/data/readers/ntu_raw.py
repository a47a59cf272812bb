"""NTU RGB+D as distributed: a folder of .skeleton text files, one a clip.

A file is whitespace-separated numbers: the frame count, then for each frame the body count, then
for each body its tracking id, nine state values, the joint count, and twelve values a joint, the
first three being x, y, z in metres.
"""

from pathlib import Path

import numpy as np
from einops import rearrange

from slim_fast.data.clips import Clip
from slim_fast.data.readers.files import MAX_FRAMES, find_files, list_files, read_bytes
from slim_fast.data.readers.ntu import ACTIONS, EXAMPLE, parse_ntu_name, resembles_ntu_name
from slim_fast.data.readers.ntu_people import Bodies, select_people
from slim_fast.data.readers.recordings import Recording, read_recordings
from slim_fast.data.readers.source import Options, Problem, Reader, Source
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology

ENDING = ".skeleton"
JOINTS, JOINT_VALUES, BODY_VALUES = 25, 12, 10
MAX_BODIES = 200


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


def read_skeleton(recording: Recording) -> Clip:
    """Read the clip of a .skeleton file. Raises: OSError, UserError when there is none."""
    (path,) = recording.files
    name = parse_ntu_name(path.stem)
    if name is not None and not 1 <= name.action <= len(ACTIONS):
        raise UserError(f"action outside A001..A{len(ACTIONS)}")
    if name is None and resembles_ntu_name(path.stem):
        raise UserError(
            f"a name nearly like {EXAMPLE}: correct it, or choose quite another for no label"
        )
    count, bodies = parse_skeleton(read_bytes(path))
    people = select_people(bodies)
    if not people:
        raise UserError("no person in any frame")
    positions = np.zeros((count, JOINTS, 3, len(people)), np.float32)
    for person, (frames, joints) in enumerate(people.values()):
        positions[frames, :, :, person] = joints
    return recording.clip(positions)


def _recognises(path: Path) -> bool:
    return (
        path.suffix.lower() == ENDING
        if path.is_file()
        else next(find_files(path, ENDING), None) is not None
    )


def _describe(path: Path) -> Recording:
    name = parse_ntu_name(path.stem)
    if name is None:
        return Recording((path,), path.stem)
    numbers = name.action - 1, name.subject, name.camera, name.setup
    return Recording((path,), path.stem, *numbers, name.splits)


def _get_key(path: Path) -> str:
    return path.stem.upper() if parse_ntu_name(path.stem) else path.stem


def _read(path: Path, options: Options) -> Source:
    problems: list[Problem] = []
    recordings = [_describe(file) for file in list_files(path, ENDING, problems, _get_key).values()]
    actions = [recording.label + 1 for recording in recordings if recording.label >= 0]
    classes = ACTIONS[:60] if max(actions, default=0) <= 60 else ACTIONS
    return Source(
        options.topology or get_topology("ntu-25"),
        options.channels or "xyz",
        read_recordings(recordings, read_skeleton, options, problems),
        classes if actions else (),
        len(recordings),
        problems,
    )


READER = Reader("a folder of NTU .skeleton files", _recognises, _read)
