"""Classifiers of known skeletons, generated poses, and a video of a figure with its finder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.watch_poses import make_frames
from slim_fast import SLiMClassifier
from slim_fast.data.readers.mediapipe import NOBODY
from slim_fast.skeletons import get_topology
from slim_fast.watching.poses import PoseFrame, PoseSource
from tests.interop.conftest import make_classifier, make_encoder

__all__ = ["make_classifier", "make_encoder"]
CLASSES = ["wave", "步行", "a <b>bold</b> kick"]
LANDMARKS = get_topology("mediapipe-33")


@pytest.fixture
def classifier(make_classifier: Callable[..., SLiMClassifier]) -> SLiMClassifier:
    made = make_classifier(3, "ntu-25")
    made.name_classes(CLASSES)
    return made


@pytest.fixture
def model(classifier: SLiMClassifier, tmp_path: Path) -> Path:
    """The classifier's folder."""
    classifier.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="session")
def recording() -> list[dict[str, Any]]:
    """Frames of MediaPipe: one person, then two."""
    return make_frames(["kick", "hug"], 3)


@pytest.fixture
def poses(recording: list[dict[str, Any]], tmp_path: Path) -> Path:
    """The recording as JSON lines."""
    path = tmp_path / "poses.jsonl"
    path.write_text("".join(f"{json.dumps(frame)}\n" for frame in recording))
    return path


def source_of(frames: list[PoseFrame], topology: str, channels: str = "xyz") -> PoseSource:
    """Poses in space."""
    return PoseSource(get_topology(topology), channels, "", iter(frames))


class BoxFinder:
    """Finds one white figure on black: a fixed pose, stretched to the box around what is white."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.middles: list[float] = []
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True

    def __call__(self, picture: np.ndarray, seconds: float) -> tuple[np.ndarray, np.ndarray]:
        self.seconds.append(seconds)
        rows, columns = np.nonzero(picture.min(-1) > 128)
        if not len(rows):
            return NOBODY, NOBODY
        height, low, high = (
            picture.shape[0],
            np.array([columns.min(), rows.min()]),
            (np.array([columns.max(), rows.max()])),
        )
        self.middles.append(float((low[0] + high[0]) / 2))
        fixed = np.random.default_rng(0).uniform(size=(33, 2))
        corner = np.array(picture.shape[1::-1]) / 2
        image = (low + fixed * (high - low) - corner) * 2 / height  # half heights
        world = np.concatenate([fixed * 1.7, np.zeros((33, 1)), np.ones((33, 1))], -1)
        return world[None], np.concatenate([image, np.zeros((33, 1)), np.ones((33, 1))], -1)[None]


def write_video(path: Path, frames: int = 60, rate: float = 30.0, size: int = 120) -> Path:
    """A bar that walks to the right, first seen in the 10th frame; red stripes say the channels."""
    cv2 = pytest.importorskip("cv2", reason="no OpenCV")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, (2 * size, size))
    for number in range(frames):
        picture = np.zeros((size, 2 * size, 3), np.uint8)
        picture[-10:] = (0, 0, 255)  # OpenCV's order: blue, green, red
        if number >= 10:
            left = 10 + 2 * number
            picture[20:100, left : left + 20] = 255
        writer.write(picture)
    writer.release()
    return path
