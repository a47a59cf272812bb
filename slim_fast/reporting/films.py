"""Clips as moving skeletons for a page: few frames, projected, quantised, in base64."""

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slim_fast.data.cache import ClipCache
from slim_fast.drawing.poses import project
from slim_fast.drawing.stick_figures import Floats, joint_sides
from slim_fast.skeletons import Topology

FRAMES = 24
_LARGEST = 2**16 - 2


@dataclass
class Films:
    """Films of a page, of one skeleton; each is shown by the number that adding it returned.

    A film's points are uint16 (frames, people, V, 2) in its own square, 1 to 65,535 rightwards and
    downwards, 0 where a joint is undetected; marks are uint8 (times, people, V), one for equal
    shares of the film.
    """

    topology: Topology
    channels: str
    _films: list[list[int]] = field(default_factory=list)
    _points: list[bytes] = field(default_factory=list)
    _marks: list[bytes] = field(default_factory=list)
    _numbers: dict[int, int] = field(default_factory=dict)

    def add_clip(self, cache: ClipCache, clip: int, people: int) -> int:
        """At most `people` of a clip of the cache, which is added once; the film's number."""
        if clip not in self._numbers:
            poses = cache.clip(clip)[..., :people].transpose(0, 3, 1, 2)
            self._numbers[clip] = self.add(poses)
        return self._numbers[clip]

    def add(self, poses: Floats, marks: np.ndarray | None = None) -> int:
        """People's positions (T, M, V, C) and marks uint8 (times, M, V); the film's number."""
        times = np.linspace(0, len(poses) - 1, min(FRAMES, len(poses))).round().astype(int)
        flat = project(poses[times], self.topology, self.channels)
        seen = np.isfinite(flat).all(-1)
        points = np.zeros(flat.shape, "<u2")
        if seen.any():
            low, high = flat[seen].min(0), flat[seen].max(0)
            middle, size = (low + high) / 2, max(float((high - low).max()), 1e-9)
            # screens count downwards
            unit = (flat[seen] - middle) / size * [1, -1] + 0.5
            points[seen] = 1 + (unit.clip(0, 1) * _LARGEST).round()
        number = len(self._films)
        start, first = sum(map(len, self._points)) // 2, sum(map(len, self._marks))
        self._films.append([start, *points.shape[:2], first, 0 if marks is None else len(marks)])
        self._points.append(points.tobytes())
        if marks is not None:
            self._marks.append(marks.astype(np.uint8).tobytes())
        return number

    def to_dict(self) -> dict[str, Any]:
        """What the page's script reads; a film is [first point, frames, people, first mark, times
        of marks].
        """
        return {
            "joints": self.topology.num_joints,
            "bones": self.topology.bones,
            "sides": joint_sides(self.topology),
            "films": self._films,
            "points": b64encode(b"".join(self._points)).decode(),
            "marks": b64encode(b"".join(self._marks)).decode(),
        }
