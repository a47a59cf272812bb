"""People of frames that do not say who is who."""

from collections.abc import Sequence

import numpy as np

MAX_PEOPLE = 10  # those who are seen in most frames
MAX_STEP = 0.5  # from one frame to the next, in diagonals of the body's bounding box
MAX_GAP = 30  # frames that somebody may be gone


def follow_people(
    frames: Sequence[np.ndarray], keys: Sequence[np.ndarray] | None = None
) -> np.ndarray:
    """Order the people of frames so that each keeps their place.

    A body continues the nearest person of the frames before, by the mean distance of the joints
    detected in both; all bodies of a frame are assigned at once (Hungarian method). One that is
    further than half its size from everybody is a new person. Where no frame has two, all are one
    person, however far they move.

    Args:
        frames: T arrays (people, V, C); what is undetected is zero or NaN.
        keys: T arrays (people, V, 2 or 3) of positions to follow people by; by default `frames`.

    Returns: (T, V, C, M), at most the ten people who are there longest; absent people are zero.
    """
    keys = [_remove_undetected(bodies) for bodies in (frames if keys is None else keys)]
    seen = [np.flatnonzero(np.isfinite(bodies).any(axis=(1, 2))).tolist() for bodies in keys]
    if max(map(len, seen), default=0) <= 1:
        alone = [(t, numbers[0]) for t, numbers in enumerate(seen) if numbers]
        people = [alone] if alone else []
    else:
        people = _track(keys)
    longest = sorted(people, key=lambda places: (-len(places), places))[:MAX_PEOPLE]
    shape = next((bodies.shape[1:] for bodies in frames if len(bodies)), (0, 0))
    positions = np.zeros((len(frames), *shape, len(longest)))
    for m, places in enumerate(longest):
        for t, number in places:
            positions[t, :, :, m] = frames[t][number]
    return positions


class Tracker:
    """Numbers the people of frames as they arrive, as `follow_people` does in a whole recording."""

    def __init__(self) -> None:
        self._last: list[np.ndarray] = []  # of each person (V, 2 or 3)
        self._seen: list[int] = []  # frame in which each person was seen last
        self._frame = 0

    def update(self, keys: np.ndarray) -> list[int]:
        """Take the next frame.

        Args:
            keys: (people, V, 2 or 3) positions to follow people by; undetected joints are zero or
                NaN.

        Returns: a number for each person, from 0 in the order of their first frames; -1 for those
        without a detected joint.
        """
        from scipy.optimize import linear_sum_assignment  # slow to import

        poses = _remove_undetected(keys)
        recent = [m for m, seen in enumerate(self._seen) if self._frame - seen <= MAX_GAP]
        steps = _measure_steps([self._last[m] for m in recent], poses)
        numbers = [-1] * len(poses)
        # a cost larger than any, because the method takes no infinite ones
        pairs = linear_sum_assignment(np.where(steps <= MAX_STEP, steps, 1e6))
        for row, column in zip(*pairs, strict=True):
            if steps[row, column] <= MAX_STEP:
                numbers[column] = recent[row]
        for column, pose in enumerate(poses):
            if numbers[column] < 0 and np.isfinite(pose).any():
                numbers[column] = len(self._last)
                self._last.append(pose)
                self._seen.append(self._frame)
            elif numbers[column] >= 0:
                self._last[numbers[column]] = pose
                self._seen[numbers[column]] = self._frame
        self._frame += 1
        return numbers


def _track(keys: Sequence[np.ndarray]) -> list[list[tuple[int, int]]]:
    """For each person (frame, number in the frame) of their bodies."""
    tracker = Tracker()
    people: dict[int, list[tuple[int, int]]] = {}
    for t, poses in enumerate(keys):
        for place, number in enumerate(tracker.update(poses)):
            if number >= 0:
                people.setdefault(number, []).append((t, place))
    return list(people.values())


def _remove_undetected(bodies: np.ndarray) -> np.ndarray:
    detected = np.isfinite(bodies).all(axis=-1, keepdims=True) & bodies.any(axis=-1, keepdims=True)
    return np.where(detected, bodies, np.nan)


@np.errstate(all="ignore")
def _measure_steps(before: Sequence[np.ndarray], after: np.ndarray) -> np.ndarray:
    """(tracks, people) mean distance of the joints in both, in sizes of the larger body.

    Infinite where there is no such joint.
    """
    if not len(before) or not len(after):
        return np.zeros((len(before), len(after)))
    tracks = np.stack(before)
    distance = np.linalg.norm(after[None] - tracks[:, None], axis=-1)  # (tracks, people, V)
    both = np.isfinite(distance)
    mean = np.where(both, distance, 0).sum(axis=-1) / both.sum(axis=-1)
    step = mean / np.maximum.outer(_measure(tracks), _measure(after))
    return np.where(np.isfinite(step), step, np.inf)


def _measure(bodies: np.ndarray) -> np.ndarray:
    # (people,) diagonal of the box around the detected joints, 0 without any
    known = np.isfinite(bodies)
    highest = np.where(known, bodies, -np.inf).max(axis=1)
    extent = highest - np.where(known, bodies, np.inf).min(axis=1)
    return np.where(known.any(axis=(1, 2)), np.linalg.norm(extent, axis=-1), 0)
