"""OpenPose's output: folders of *_keypoints.json, one a frame.

A file holds "people", each with "pose_keypoints_2d": x, y and confidence of the 25 joints of
BODY_25 or the 18 of COCO. Files of a clip are those of a folder, or with the same name but for the
frame's number. Coordinates are taken as they are; `--scale` makes half image heights of pixels.
Labels and splits are as `own_folders` says.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from slim_fast.data.clips import Clip
from slim_fast.data.readers.files import (
    MAX_FRAMES,
    PEEKED,
    find_files,
    read_json,
    some_file,
    to_array,
)
from slim_fast.data.readers.own_folders import describe_clips, group_frames
from slim_fast.data.readers.recordings import Recording, explain_frame, read_recordings
from slim_fast.data.readers.source import Options, Problem, Reader, Source
from slim_fast.data.readers.tracking import follow_people
from slim_fast.errors import UserError
from slim_fast.skeletons import Topology, get_topology

ENDING = "_keypoints.json"
FRAME = re.compile(r"(.*?)(\d+)_keypoints\.json", re.IGNORECASE | re.DOTALL)
TOPOLOGIES = {25: "openpose-25", 18: "openpose-18"}
FIELD = "pose_keypoints_2d"
NOBODY = np.zeros((0, 0, 3))


def read_frames(channels: str, recording: Recording) -> list[Clip | Problem]:
    """Read a clip of one file a frame; frames that cannot be read are empty, and problems.

    Raises: UserError when there is no frame with a person.
    """
    if len(recording.files) > MAX_FRAMES:
        raise UserError(f"more than {MAX_FRAMES} frames: cut it into shorter recordings")
    frames: list[np.ndarray] = []
    results: list[Clip | Problem] = []
    for file in recording.files:
        try:
            frames.append(parse_people(read_json(file)))
        except (OSError, UserError) as error:
            results.append(explain_frame(recording, file, error))
            frames.append(NOBODY)
    joints = {frame.shape[1] for frame in frames if len(frame)}
    if len(joints) > 1:
        raise UserError("frames with different numbers of joints")
    if not joints:
        raise UserError("no person in any frame")
    # without confidence there is no position: OpenPose writes 0, 0, 0
    frames = [np.where(frame[..., 2:] > 0, frame, 0) for frame in frames]
    positions = follow_people(frames, [frame[..., :2] for frame in frames])
    return [recording.clip(positions[:, :, ["xyc".index(c) for c in channels]]), *results]


def parse_people(content: Any) -> np.ndarray:
    """The people (people, V, 3) of a frame, as JSON has it. Raises: UserError for other content."""
    people = content.get("people") if isinstance(content, dict) else None
    if not isinstance(people, list):
        raise UserError("no object with a list of 'people'")
    found = [_get_keypoints(person) for person in people]
    bodies = [to_array(values, None).reshape(-1, 3) for values in found if len(values)]
    if len({len(body) for body in bodies}) > 1:
        raise UserError("people with different numbers of joints")
    return np.stack(bodies) if bodies else NOBODY


def _get_keypoints(person: Any) -> list[Any]:
    values = person.get(FIELD, person.get("pose_keypoints")) if isinstance(person, dict) else None
    if not isinstance(values, list) or len(values) % 3:
        raise UserError(f"a person without '{FIELD}' of three numbers a joint")
    return values


def _recognises(path: Path) -> bool:
    return path.is_dir() and some_file(path, ENDING, lambda _: True)


def _infer_topology(files: list[Path], path: Path) -> Topology:
    for file in files[:: max(1, len(files) // PEEKED)]:  # the first frames may be empty
        try:
            people = parse_people(read_json(file))
        except (OSError, UserError):
            continue
        if len(people):
            joints = people.shape[1]
            if joints in TOPOLOGIES:
                return get_topology(TOPOLOGIES[joints])
            raise UserError(
                f"{file} has {joints} joints, which are neither BODY_25 nor COCO: pass --topology "
                "with a JSON file"
            )
    raise UserError(f"{path} shows nobody in the {PEEKED} frames that were looked at")


def _read(path: Path, options: Options) -> Source:
    problems: list[Problem] = []
    frames: dict[tuple[Path, str], list[tuple[int, Path]]] = {}
    for file in find_files(path, ENDING, problems):
        match = FRAME.fullmatch(file.name)
        word, number = (match[1], int(match[2])) if match else (file.name[: -len(ENDING)], 0)
        frames.setdefault((file.parent, word), []).append((number, file))
    clips = describe_clips(path, group_frames(path, frames), problems)
    channels = options.channels or "xyc"
    if "z" in channels:
        raise UserError(f"--channels {channels}: {path} has x, y and a confidence")
    files = [file for numbered in frames.values() for _, file in numbered]
    return Source(
        options.topology or _infer_topology(files, path),
        channels,
        read_recordings(clips.recordings, partial(read_frames, channels), options, problems),
        clips.classes,
        len(clips.recordings),
        problems,
    )


READER = Reader("folders of OpenPose's *_keypoints.json", _recognises, _read)
