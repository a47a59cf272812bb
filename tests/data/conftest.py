"""Small made-up recordings in the formats of the field."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Bodies = list[dict[int, np.ndarray]]  # for each frame: tracking id -> (25, 3)


@pytest.fixture
def walkers() -> Callable[..., np.ndarray]:
    def make(
        frames: int = 20, joints: int = 25, channels: int = 3, people: int = 1, seed: int = 0
    ) -> np.ndarray:
        """(T, V, C, M) float32: tall, narrow, wobbling clouds of joints, none zero, three metres
        before a camera.
        """
        rng = np.random.default_rng(seed)
        shape = rng.uniform(0.1, 0.3, (1, joints, channels, people))
        shape[:, :, 1] = np.linspace(0.2, 1.8, joints)[None, :, None]
        shape[:, :, 2:3] += 3
        return (shape + rng.uniform(0, 0.05, (frames, joints, channels, people))).astype(np.float32)

    return make


@pytest.fixture
def write_skeleton() -> Callable[[Path, Bodies], bytes]:
    def write(path: Path, frames: Bodies) -> bytes:
        """An NTU .skeleton text file, with its line ends and its unused numbers."""
        lines = [str(len(frames))]
        for bodies in frames:
            lines.append(str(len(bodies)))
            for tracking_id, joints in bodies.items():
                lines += [f"{tracking_id} 0 1 1 1 1 0 0.02 0.05 2", str(len(joints))]
                lines += [
                    " ".join(f"{value:.7g}" for value in joint)
                    + " 277.4 191.8 1036.2 519.1 -.2 .05 .96 -.1 2"
                    for joint in joints
                ]
        text = ("\r\n".join(lines) + "\r\n").encode()
        path.write_bytes(text)
        return text

    return write
