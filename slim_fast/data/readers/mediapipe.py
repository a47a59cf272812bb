"""Pose landmarks of MediaPipe in JSON files, which hold a clip or a frame each.

A clip is a list of frames, or an object with the list "frames" and, if known, "width" and "height"
of the image. A frame is an object with "worldLandmarks" or "landmarks" (MediaPipe's result in
JavaScript), "pose_world_landmarks" or "pose_landmarks" (in Python); it is empty where nobody was
detected. Landmarks are a list of 33 for a person, or a list of people; each is an object with x, y,
z and visibility, or a list of these numbers. Where there are world landmarks, in metres, they are
taken; else those of the image, in half image heights. Labels and splits are as `own_folders` says.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
from slim_fast.data.readers.own_folders import describe_clips, group_frames, name_below
from slim_fast.data.readers.recordings import Recording, explain_frame, read_recordings
from slim_fast.data.readers.source import Options, Problem, Reader, Source
from slim_fast.data.readers.tracking import follow_people
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology

ENDING, JOINTS = ".json", 33
NUMBERED = re.compile(r"(.*?)(\d+)", re.DOTALL)
WORLD = ("worldLandmarks", "pose_world_landmarks", "poseWorldLandmarks", "world_landmarks")
IMAGE = ("landmarks", "pose_landmarks", "poseLandmarks", "landmark")
AXES = ("x", "y", "z", "visibility")
NOBODY = np.zeros((0, JOINTS, len(AXES)))


class Frame(NamedTuple):
    """People of a frame, (people, 33, 4) each: x, y, z, visibility; NaN where it is not given."""

    world: np.ndarray
    image: np.ndarray


class Content(NamedTuple):
    """Frames of a file, whether it is one frame alone, the image's width / height if known."""

    frames: list[Frame]
    is_frame: bool
    aspect: float | None


def read_landmarks(channels: str, is_world: bool, recording: Recording) -> list[Clip | Problem]:
    """Read a clip of one file, or of one file a frame.

    Of several files those that cannot be read are empty frames, and problems.
    Raises: OSError, UserError when there is no frame with a person.
    """
    contents: list[Content] = []
    results: list[Clip | Problem] = []
    for file in recording.files:
        try:
            contents.append(_read_file(file))
        except (OSError, UserError) as error:
            if len(recording.files) == 1:
                raise
            contents.append(Content([Frame(NOBODY, NOBODY)], True, None))
            results.append(explain_frame(recording, file, error))
    frames = [frame for content in contents for frame in content.frames]
    if len(frames) > MAX_FRAMES:
        raise UserError(f"more than {MAX_FRAMES} frames: cut it into shorter recordings")
    people = [frame.world if is_world else frame.image for frame in frames]
    if not any(map(len, people)):
        other = any(len(frame.world) + len(frame.image) for frame in frames)
        kind = "world" if is_world else "image"
        raise UserError(
            f"no {kind} landmarks, which other clips have" if other else "no person in any frame"
        )
    # bodies in the world have their hips at the origin, so only their images tell them apart
    has_images = all(
        len(frame.image) == len(bodies) for frame, bodies in zip(frames, people, strict=True)
    )
    keys = [frame.image for frame in frames] if has_images else people
    positions = follow_people(people, [key[..., :2] for key in keys])
    if not is_world:
        aspect = next((content.aspect for content in contents if content.aspect), 1.0)
        positions = np.moveaxis(to_half_heights(np.moveaxis(positions, 2, 3), aspect), 3, 2)
    return [recording.clip(positions[:, :, ["xyzc".index(c) for c in channels]]), *results]


def to_half_heights(image: np.ndarray, aspect: float) -> np.ndarray:
    """Image landmarks (..., 33, 4) in half image heights from the middle; undetected stay zero.

    aspect: the image's width / height.
    """
    detected = (image[..., :3] != 0).any(-1, keepdims=True)
    moved = (image[..., :3] - [0.5, 0.5, 0]) * [2 * aspect, 2, 2 * aspect]
    return np.concatenate([np.where(detected, moved, 0), image[..., 3:]], -1)


def _read_file(file: Path) -> Content:
    content = read_json(file)
    aspect = None
    if isinstance(content, dict) and "frames" in content:
        sides: list[Any] = [content.get(side) for side in ("width", "height")]
        if all(isinstance(side, (int, float)) and side > 0 for side in sides):
            aspect = sides[0] / sides[1]
        content = content["frames"]
        if not isinstance(content, list):
            raise UserError("'frames' that are no list")
    elif isinstance(content, dict) or _is_person(content):
        return Content([parse_frame(content)], True, None)
    if not isinstance(content, list):
        raise UserError("no list of frames")
    return Content([parse_frame(frame) for frame in content], False, aspect)


def parse_frame(frame: Any) -> Frame:
    """The people of a frame, as JSON has it. Raises: UserError for other content."""
    if isinstance(frame, dict):
        world = next((frame[key] for key in WORLD if key in frame), None)
        image = next((frame[key] for key in IMAGE if key in frame), None)
        if not any(key in frame for key in (*WORLD, *IMAGE)):
            raise UserError("a frame without landmarks")
        return Frame(_parse_people(world), _parse_people(image))
    return Frame(NOBODY, _parse_people(frame))


def _parse_people(value: Any) -> np.ndarray:
    # (people, 33, 4)
    if not value:
        return NOBODY
    value = _unwrap(value)
    people = [value] if _is_person(value) else list(map(_unwrap, value))
    if not all(map(_is_person, people)):
        raise UserError(f"landmarks that are not {JOINTS} points a person")
    return np.stack([_parse_person(person) for person in people])


def _unwrap(value: Any) -> Any:
    # protocol buffers as JSON: {"landmark": [...]}
    if isinstance(value, dict):
        value = next((value[key] for key in ("landmark", "landmarks") if key in value), None)
    if not isinstance(value, list):
        raise UserError(f"landmarks that are not {JOINTS} points a person")
    return value


def _is_person(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != JOINTS:
        return False
    first = value[0]
    return (isinstance(first, dict) and "x" in first) or (
        isinstance(first, list) and len(first) >= 3 and isinstance(first[0], (int, float))
    )


def _parse_person(landmarks: Sequence[Any]) -> np.ndarray:
    rows = [
        [mark.get(axis) for axis in AXES]
        if isinstance(mark, dict)
        else [*mark, None][: len(AXES)]
        if isinstance(mark, list)
        else [None]
        for mark in landmarks
    ]
    return to_array(rows, JOINTS, len(AXES))


def _peek(files: Sequence[Path]) -> Content | None:
    # the first of some files that shows somebody, else any that can be read
    found: Content | None = None
    for file in files[:: max(1, len(files) // PEEKED)]:
        try:
            content = _read_file(file)
        except (OSError, UserError):
            continue
        if any(len(frame.world) + len(frame.image) for frame in content.frames):
            return content
        found = found or content
    return found


def _recognises(path: Path) -> bool:
    def fits(file: Path) -> bool:
        return bool(_read_file(file).frames)

    return some_file(path, ENDING, fits, limit=PEEKED)


def _read(path: Path, options: Options) -> Source:
    problems: list[Problem] = []
    root = path.parent if path.is_file() else path
    files = [path] if path.is_file() else sorted(find_files(path, ENDING, problems))
    first = _peek(files)
    if first is None:
        raise UserError(f"{path} has no frame of MediaPipe's landmarks that can be read")
    if first.is_frame:
        frames: dict[tuple[Path, str], list[tuple[int, Path]]] = {}
        for file in files:
            match = NUMBERED.fullmatch(file.stem)
            word, number = (match[1], int(match[2])) if match else (file.stem, 0)
            frames.setdefault((file.parent, word), []).append((number, file))
        clips = describe_clips(root, group_frames(root, frames), problems)
    else:
        clips = describe_clips(root, {name_below(root, file): (file,) for file in files}, problems)
    people = [frame.world if len(frame.world) else frame.image for frame in first.frames]
    is_world = any(len(frame.world) for frame in first.frames)
    is_scored = any(np.isfinite(bodies[..., 3]).any() for bodies in people)
    channels = options.channels or ("xyzc" if is_scored else "xyz")
    warnings = []
    if not is_world and first.aspect is None:
        warnings.append(
            f"the images of {path} count as square, because its files do not say: add their width "
            "and height, or save world landmarks"
        )
    read = partial(read_landmarks, channels, is_world)
    return Source(
        options.topology or get_topology("mediapipe-33"),
        channels,
        read_recordings(clips.recordings, read, options, problems),
        clips.classes,
        len(clips.recordings),
        problems,
        warnings,
    )


READER = Reader("JSON files of MediaPipe's 33 pose landmarks", _recognises, _read)
