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
    further than half its size from everybody is a new person.

    Args:
        frames: T arrays (people, V, C); what is undetected is zero or NaN.
        keys: T arrays (people, V, 2 or 3) of positions to follow people by; by default `frames`.

    Returns: (T, V, C, M), at most the ten people who are there longest; absent people are zero.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    keys = frames if keys is None else keys
    places: list[list[tuple[int, int]]] = []  # of each person (frame, number in the frame)
    last: list[np.ndarray] = []  # of each person (V, 2 or 3)
    for t, bodies in enumerate(keys):
        poses = [_remove_undetected(body) for body in bodies]
        open_tracks = [m for m, seen in enumerate(places) if t - seen[-1][0] <= MAX_GAP]
        steps = np.array([[_step(last[m], pose) for pose in poses] for m in open_tracks])
        steps = steps.reshape(len(open_tracks), len(poses))
        new = set(range(len(poses)))
        # a cost larger than any, because the method takes no infinite ones
        for row, column in zip(
            *linear_sum_assignment(np.where(steps <= MAX_STEP, steps, 1e6)), strict=True
        ):
            if steps[row, column] <= MAX_STEP:
                person = open_tracks[row]
                places[person].append((t, column))
                last[person] = poses[column]
                new.discard(column)
        for column in sorted(new):
            if np.isfinite(poses[column]).any():
                places.append([(t, column)])
                last.append(poses[column])
    longest = sorted(places, key=lambda seen: (-len(seen), seen))[:MAX_PEOPLE]
    shape = next((bodies.shape[1:] for bodies in frames if bodies.ndim == 3), (0, 0))
    positions = np.zeros((len(frames), *shape, len(longest)))
    for m, seen in enumerate(longest):
        for t, number in seen:
            positions[t, :, :, m] = frames[t][number]
    return positions


def _remove_undetected(body: np.ndarray) -> np.ndarray:
    detected = np.isfinite(body).all(axis=-1, keepdims=True) & body.any(axis=-1, keepdims=True)
    return np.where(detected, body, np.nan)


def _step(before: np.ndarray, after: np.ndarray) -> float:
    # mean distance of the joints in both, in sizes of the body; infinite without such joints
    distance = np.linalg.norm(after - before, axis=-1)
    both = np.isfinite(distance)
    if not both.any():
        return np.inf
    size = max(map(_measure, (before, after)))
    return float(distance[both].mean() / size) if size > 0 else np.inf


def _measure(body: np.ndarray) -> float:
    known = body[np.isfinite(body).all(axis=-1)]
    return float(np.linalg.norm(known.max(axis=0) - known.min(axis=0)))
