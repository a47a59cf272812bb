"""Poses of files and pipes: JSON of MediaPipe or OpenPose, one object a frame.

A source is a file of JSON lines ("-": standard input), a .json file with a list of frames or an
object with the list "frames", or a folder with a .json file for each frame. A frame is what the
readers of `slim_fast.data.readers.mediapipe` and `openpose` take. It may have "seconds", and
"width" and "height" of the image in pixels; so may the object around "frames".
"""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from slim_fast.data.readers import mediapipe, openpose
from slim_fast.data.readers.files import read_json
from slim_fast.errors import UserError, describe_os_error
from slim_fast.reading import parse_json
from slim_fast.skeletons import get_topology
from slim_fast.watching.poses import Pace, PoseFrame, PoseSource

STANDARD_INPUT = "-"
LINES = (".jsonl", ".ndjson")
NUMBER = re.compile(r"\d+")
Size = tuple[float, float]
"""Width and height of an image in pixels."""
NO_PEOPLE = 64
"""Frames without anybody, after which an estimator's format cannot be told any more."""


def is_pose_source(source: str) -> bool:
    """Whether poses are read from it, and not a video."""
    path = Path(source)
    return source == STANDARD_INPUT or path.is_dir() or path.suffix.lower() in (*LINES, ".json")


def open_poses(
    source: str, recorded_rate: float, rate: float, size: Size | None = None
) -> PoseSource:
    """The poses in `source`, at most `rate` frames a second.

    Args:
        recorded_rate: frames a second, where frames have no "seconds".
        size: of the image, where frames have no "width" and "height".

    Raises: UserError, also while frames are read, for content of no known format, and for frames
    of OpenPose without the image's size.
    """
    content, total = _open_content(source)
    name = "standard input" if source == STANDARD_INPUT else source
    # the first frame with somebody tells the format
    read: list[Any] = []
    for frame in content:
        read.append(frame)
        if _shows_somebody(frame, name, len(read)) or len(read) == NO_PEOPLE:
            break
    if not read or not _shows_somebody(read[-1], name, len(read)):
        raise UserError(f"{name} shows nobody in its first {len(read)} frames: give other poses.")
    parser = (_OpenPose if _is_openpose(read[-1]) else _MediaPipe)(read[-1], size)
    frames = _parse(chain(read, content), parser, name, recorded_rate, rate)
    is_timed = isinstance(read[0], dict) and "seconds" in read[0]
    seconds = None if total is None or is_timed else total / recorded_rate
    return PoseSource(
        parser.topology,
        parser.world_channels,
        parser.image_channels,
        frames,
        None if seconds is None else max(1, round(seconds * min(rate, recorded_rate))),
        seconds,
    )


def _open_content(source: str) -> tuple[Iterator[Any], int | None]:
    """The frames, decoded, and how many there are if that is known."""
    path = Path(source)
    if source == STANDARD_INPUT or path.suffix.lower() in LINES:
        return _read_lines(source), None
    try:
        if path.is_dir():
            files = [file for file in path.iterdir() if file.suffix.lower() == ".json"]
            files.sort(key=lambda file: [*map(int, NUMBER.findall(file.stem)), file.stem])
            return map(_read_file, files), len(files)
    except OSError as error:
        raise UserError(f"{describe_os_error(error)}: give another source.") from error
    content = _read_file(path)
    common = {}
    if isinstance(content, dict) and "frames" in content:
        common = {key: content[key] for key in ("width", "height") if key in content}
        content = content["frames"]
    if not isinstance(content, list):
        raise UserError(f"{source} holds no list of frames.")
    frames = (common | frame if isinstance(frame, dict) else frame for frame in content)
    return frames, len(content)


def _read_lines(source: str) -> Iterator[Any]:
    with ExitStack() as stack:
        try:
            lines: Iterable[str] = (
                sys.stdin
                if source == STANDARD_INPUT
                else stack.enter_context(open(source, encoding="utf-8-sig"))
            )
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _decode(line, f"{source}, line {number},")
        except OSError as error:
            raise UserError(f"{describe_os_error(error)}: give another source.") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{source} is no text: give JSON lines.") from error


def _read_file(file: Path) -> Any:
    try:
        return read_json(file)
    except OSError as error:
        raise UserError(f"{describe_os_error(error)}: give another source.") from error
    except UserError as error:
        raise UserError(f"{file} cannot be read: {error}.") from error


def _decode(line: str, place: str) -> Any:
    try:
        return parse_json(line)
    except ValueError as error:
        raise UserError(f"{place} is no JSON, or cut short.") from error


def _is_openpose(frame: Any) -> bool:
    return isinstance(frame, dict) and "people" in frame


def _shows_somebody(frame: Any, name: str, number: int) -> bool:
    try:
        if _is_openpose(frame):
            return len(openpose.parse_people(frame)) > 0
        found = mediapipe.parse_frame(frame)
    except UserError as error:
        raise _unreadable(name, number, error) from error
    return len(found.world) + len(found.image) > 0


def _unreadable(name: str, number: int, error: UserError) -> UserError:
    return UserError(f"Frame {number} of {name} cannot be read: {error}.")


def _parse(
    content: Iterator[Any],
    parser: "_OpenPose | _MediaPipe",
    name: str,
    recorded: float,
    rate: float,
) -> Iterator[PoseFrame]:
    pace, before = Pace(rate), 0.0
    for number, frame in enumerate(content):
        given = frame.get("seconds") if isinstance(frame, dict) else None
        seconds = given if isinstance(given, int | float) else number / recorded
        if not seconds >= before:
            raise UserError(
                f"Frame {number + 1} of {name} is at {seconds:g} s, after one at {before:g} s: "
                "give frames in their order."
            )
        before = seconds
        if pace.takes(seconds):
            try:
                yield parser.parse(frame, seconds)
            except UserError as error:
                raise _unreadable(name, number + 1, error) from error


def _image_size(frame: Any) -> Size | None:
    if not isinstance(frame, dict):
        return None
    sides: list[Any] = [frame.get(side) for side in ("width", "height")]
    if all(isinstance(side, int | float) and side > 0 for side in sides):
        return sides[0], sides[1]
    return None


class _MediaPipe:
    """Frames of MediaPipe, all with world landmarks or all with image landmarks only."""

    def __init__(self, first: Any, size: Size | None) -> None:
        found = mediapipe.parse_frame(first)
        people = found.world if len(found.world) else found.image
        confidence = "c" if np.isfinite(people[..., 3]).any() else ""
        self.topology = get_topology("mediapipe-33")
        self.world_channels = f"xyz{confidence}" if len(found.world) else ""
        self.image_channels = f"xyz{confidence}" if len(found.image) else ""
        self._size = size or _image_size(first)

    def parse(self, frame: Any, seconds: float) -> PoseFrame:
        found = mediapipe.parse_frame(frame)
        world, image = (
            people[..., : len(channels)] if channels else None
            for people, channels in (
                (found.world, self.world_channels),
                (self._in_half_heights(frame, found.image), self.image_channels),
            )
        )
        if world is not None and image is not None and len(world) != len(image):
            raise UserError(
                f"{len(world)} people with world landmarks and {len(image)} with image landmarks"
            )
        return PoseFrame(seconds, world, image)

    def _in_half_heights(self, frame: Any, image: np.ndarray) -> np.ndarray:
        width, height = _image_size(frame) or self._size or (1.0, 1.0)
        return mediapipe.to_half_heights(image, width / height)


class _OpenPose:
    """Frames of OpenPose, in pixels; their size is needed."""

    world_channels, image_channels = "", "xyc"

    def __init__(self, first: Any, size: Size | None) -> None:
        joints = openpose.parse_people(first).shape[1]
        if joints not in openpose.TOPOLOGIES:
            raise UserError(
                f"OpenPose's people have {joints} joints, which are neither BODY_25 nor COCO."
            )
        self.topology = get_topology(openpose.TOPOLOGIES[joints])
        self._size = size or _image_size(first)

    def parse(self, frame: Any, seconds: float) -> PoseFrame:
        people = openpose.parse_people(frame)
        if not len(people):
            return PoseFrame(seconds, image=np.zeros((0, self.topology.num_joints, 3)))
        if people.shape[1] != self.topology.num_joints:
            raise UserError(f"{people.shape[1]} joints, not {self.topology.num_joints} as before")
        size = _image_size(frame) or self._size
        if size is None:
            raise UserError(
                'no "width" and "height" of the image, without which OpenPose\'s pixels say '
                "nothing of sizes: add them, or pass --image-size"
            )
        detected = people[..., 2:] > 0
        moved = (people[..., :2] - np.divide(size, 2)) * (2 / size[1])
        return PoseFrame(
            seconds, image=np.where(detected, np.concatenate([moved, people[..., 2:]], -1), 0)
        )
