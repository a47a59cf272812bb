"""Poses as they come: one frame at a time, from any pose estimator."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slim_fast.skeletons import Topology


@dataclass(frozen=True, eq=False)
class PoseFrame:
    """The people of one frame; joints that were not detected are zero or NaN.

    Attributes:
        seconds: since the first frame.
        world: (M, V, C) of an estimator that places joints in space, metres; None without.
        image: (M, V, C) in half image heights from the image's middle; None without.
        picture: (H, W, 3) uint8, red, green, blue; None where only poses are known.
    """

    seconds: float
    world: np.ndarray | None = None
    image: np.ndarray | None = None
    picture: np.ndarray | None = None

    @property
    def people(self) -> int:
        """M."""
        found = self.image if self.world is None else self.world
        return 0 if found is None else len(found)


@dataclass(frozen=True, eq=False)
class PoseSource:
    """Where poses come from.

    Attributes:
        topology: of the joints.
        world_channels: of `PoseFrame.world`, "" when there is none.
        image_channels: of `PoseFrame.image`, "" when there is none.
        frames: the frames in their order; can be iterated once.
        total: number of frames, None when unknown.
        seconds: length of the recording, None when unknown.
        is_live: whether it ends only when it is stopped.
    """

    topology: Topology
    world_channels: str
    image_channels: str
    frames: Iterator[PoseFrame]
    total: int | None = None
    seconds: float | None = None
    is_live: bool = False


class Pace:
    """Chooses frames so that no more than `rate` a second are left."""

    def __init__(self, rate: float) -> None:
        self._step, self._due = 1 / rate, 0.0

    def takes(self, seconds: float) -> bool:
        """Whether the frame of that time is one of them; times must not fall."""
        if seconds + self._step / 100 < self._due:
            return False
        # from the due time, not from this frame's, so that 50 a second become 30 and not 25
        self._due = max(self._due + self._step, seconds)
        return True
