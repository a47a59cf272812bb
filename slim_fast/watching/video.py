"""Poses of people in a video or before a camera, whose frames OpenCV reads."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology
from slim_fast.watching.extra import import_extra
from slim_fast.watching.poses import Pace, PoseFrame, PoseSource

CHANNELS = "xyzc"
LEAST_RATE = 1.0  # frames a second, of a video whose header is to be believed


class Finder(Protocol):
    """Finds people in pictures."""

    def __call__(self, picture: np.ndarray, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Find the people in a picture (H, W, 3) uint8 RGB; seconds rise from call to call.

        Returns: (M, 33, 4) world landmarks of MediaPipe, metres, and (M, 33, 4) image landmarks in
        half image heights from the image's middle; the fourth is a confidence.
        """
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


def open_video(source: str, rate: float, make_finder: Callable[[], Finder]) -> PoseSource:
    """The people in a video file, or before the camera of that number.

    Args:
        rate: frames a second of which people are found, at most; the others are skipped.
        make_finder: called once the video is open.

    Raises: UserError without OpenCV, and for what OpenCV cannot read.
    """
    cv2 = import_extra("cv2", "Reading a video")
    is_camera = source.isdecimal() and not Path(source).exists()
    if not is_camera and not Path(source).is_file():
        raise UserError(f"There is no video {source}: give a file, a camera's number, or poses.")
    capture = cv2.VideoCapture(int(source) if is_camera else source)
    if not capture.isOpened():
        what = f"camera {source}: try another number" if is_camera else f"{source} as a video"
        raise UserError(f"OpenCV cannot read {what}.")
    finder = make_finder()
    recorded, total = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    if not is_camera and not recorded >= LEAST_RATE:
        raise UserError(f"{source} does not say how many frames it has a second: convert it.")
    seconds = None if is_camera or total <= 0 else total / recorded
    return PoseSource(
        get_topology("mediapipe-33"),
        CHANNELS,
        CHANNELS,
        _find(capture, finder, rate, None if is_camera else recorded),
        None if seconds is None else max(1, round(seconds * min(rate, recorded))),
        seconds,
        is_camera,
    )


def _find(capture: Any, finder: Finder, rate: float, recorded: float | None) -> Iterator[PoseFrame]:
    """recorded: frames a second; None: a camera, whose frames are timed as they come."""
    pace, number, began = Pace(rate), 0, time.monotonic()
    try:
        while capture.grab():
            seconds = time.monotonic() - began if recorded is None else number / recorded
            number += 1
            if not pace.takes(seconds):
                continue
            was_read, picture = capture.retrieve()
            if was_read:
                picture = np.ascontiguousarray(picture[:, :, ::-1])
                yield PoseFrame(seconds, *finder(picture, seconds), picture)
    finally:
        capture.release()
        finder.close()
