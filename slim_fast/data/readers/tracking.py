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
        poses = _remove_undetected(bodies)
        open_tracks = [m for m, seen in enumerate(places) if t - seen[-1][0] <= MAX_GAP]
        steps = _measure_steps([last[m] for m in open_tracks], poses)
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
    shape = next((bodies.shape[1:] for bodies in frames if len(bodies)), (0, 0))
    positions = np.zeros((len(frames), *shape, len(longest)))
    for m, seen in enumerate(longest):
        for t, number in seen:
            positions[t, :, :, m] = frames[t][number]
    return positions


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
