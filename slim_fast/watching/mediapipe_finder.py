"""MediaPipe's pose landmarker: 33 landmarks of several people, in metres and in the image.

Releases 0.10 of MediaPipe carry the networks, but not as the bundle that the landmarker takes; it
is put together here, by MediaPipe's own writer. Later releases carry none, and need a .task file.
"""

import os
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from slim_fast.data.readers.mediapipe import NOBODY, to_half_heights
from slim_fast.errors import UserError
from slim_fast.watching.extra import import_extra
from slim_fast.watching.video import Finder

# file in the bundle -> file in the package, and the mean and deviation of the pixels it takes
CARRIED = {
    "pose_detector.tflite": ("pose_detection/pose_detection.tflite", 127.5, 127.5),
    "pose_landmarks_detector.tflite": ("pose_landmark/pose_landmark_full.tflite", 0.0, 255.0),
}


def make_finder(people: int, model: Path | None = None) -> Finder:
    """A finder of up to that many people.

    model: a pose landmarker's .task file; None: the networks that MediaPipe carries.
    Raises: UserError without MediaPipe, and where no network is at hand or it cannot be loaded.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")  # it speaks of GPUs and delegates
    mediapipe = import_extra("mediapipe", "Finding people in a video")
    from mediapipe.tasks.python import BaseOptions, vision

    try:
        content = _bundle(mediapipe) if model is None else model.read_bytes()
        landmarker = vision.PoseLandmarker.create_from_options(
            vision.PoseLandmarkerOptions(
                base_options=BaseOptions(model_asset_buffer=content),
                running_mode=vision.RunningMode.VIDEO,
                num_poses=people,
            )
        )
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split())
        raise UserError(
            f"MediaPipe cannot load {model or 'its own networks'} ({reason}): pass --pose-model "
            "with the .task file of a pose landmarker."
        ) from error

    return _Landmarker(mediapipe, landmarker)


class _Landmarker:
    """A `Finder`."""

    def __init__(self, mediapipe: Any, landmarker: Any) -> None:
        self._mediapipe, self._landmarker = mediapipe, landmarker

    def __call__(self, picture: np.ndarray, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        kind = self._mediapipe.ImageFormat.SRGB
        image = self._mediapipe.Image(image_format=kind, data=picture)
        found = self._landmarker.detect_for_video(image, round(1000 * seconds))
        height, width = picture.shape[:2]
        world, marks = map(_to_array, (found.pose_world_landmarks, found.pose_landmarks))
        return world, to_half_heights(marks, width / height)

    def close(self) -> None:
        self._landmarker.close()


def _bundle(mediapipe: Any) -> bytes:
    """A .task file's content, of the networks in the package. Raises: UserError without them."""
    folder = Path(mediapipe.__file__).parent / "modules"
    if not all((folder / path).is_file() for path, *_ in CARRIED.values()):
        raise UserError(
            f"MediaPipe {mediapipe.__version__} carries no pose network: pass --pose-model with "
            "the .task file of a pose landmarker from its site, or install a release that does, "
            'pip install "mediapipe<0.10.30" (Python 3.12 or older).'
        )
    from mediapipe.tasks.python.metadata.metadata_writers.metadata_writer import MetadataWriter

    content = BytesIO()
    with ZipFile(content, "w") as bundle:  # stored, as the landmarker wants it
        for name, (path, mean, deviation) in CARRIED.items():
            writer = MetadataWriter.create(bytearray((folder / path).read_bytes()))
            writer.add_image_input([mean], [deviation])
            bundle.writestr(name, bytes(writer.populate()[0]))
    return content.getvalue()


def _to_array(people: Any) -> np.ndarray:
    """(M, 33, 4): x, y, z, visibility."""
    if not people:
        return NOBODY
    return np.array([[(m.x, m.y, m.z, m.visibility) for m in marks] for marks in people])
