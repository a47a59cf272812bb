"""The people of a raw NTU recording: tracks of one person are joined and noise is removed."""

from itertools import combinations

import numpy as np

MAX_PEOPLE = 2
NOISE_FRAMES = 11
MAX_WIDTH_TO_HEIGHT, NOISE_FRACTION = 0.8, 0.69754
FRAME_RATE = 30  # frames a second
BASE_STEP, WALKING_SPEED, MAX_STEP = 0.5, 1.4, 1.0  # metres, metres a second, metres

Track = tuple[np.ndarray, np.ndarray]  # frame numbers (F,) ascending, joints (F, 25, 3)
Bodies = dict[int, Track]  # tracking id -> track


@np.errstate(all="ignore")  # damaged files have numbers whose squares overflow
def select_people(bodies: Bodies) -> Bodies:
    """Select at most two people among the tracked bodies, most motion first.

    Joints that are not finite become zeros. Tracks of one person are joined first, so that a piece
    of a track counts neither as noise nor as a person of its own. Then a body is noise when it is
    tracked in at most 11 frames, or when in at least 69.754 % of its frames it is wider (extent in
    x) than 0.8 times its height (extent in y): the thresholds of the pre-processing that most
    published results share. A body whose joints are all zero is none. Of the remaining bodies the
    two with most motion are selected, as in that pre-processing: variance over time, summed over
    coordinates, averaged over joints. The number of frames would not do, since a person who walks
    in is tracked for a short time and a reflection throughout. A rule that would remove all bodies
    is not applied. Cleaning ranks the people of all readers again (`slim_fast.data.clips`).
    """
    people = join_tracks(
        {body: track for body, track in map(_remove_undetected, bodies.items()) if len(track[0])}
    )
    lasting = {
        body: track for body, track in people.items() if len(track[0]) > NOISE_FRAMES
    } or people
    upright = {body: track for body, track in lasting.items() if not _is_wide(track[1])} or lasting
    by_motion = sorted(upright, key=lambda body: -_motion(upright[body][1]))
    return {body: upright[body] for body in by_motion[:MAX_PEOPLE]}


@np.errstate(all="ignore")
def join_tracks(bodies: Bodies) -> Bodies:
    """Join the tracks of one person under the id that came first.

    The sensor loses people behind each other and finds them again under another id. Two tracks are
    one person when they have no frame in common and, wherever one follows the other, the body (mean
    of the joints detected both times) moves at most 0.5 m, and 1.4 m, a walk, more for each second
    between, but never more than 1 m. In real recordings 99.9 % of people stay within that from one
    frame to the next, and performers stand 0.9 m apart: a body further away may be another person.
    The pair with the smallest step is joined first.
    """
    tracks = dict(sorted(bodies.items(), key=lambda item: int(item[1][0][0])))
    steps = {pair: _step(tracks[pair[0]], tracks[pair[1]]) for pair in combinations(tracks, 2)}
    while steps:
        first, second = min(steps, key=steps.__getitem__)
        if not np.isfinite(steps[first, second]):
            break
        frames = np.concatenate([tracks[first][0], tracks[second][0]])
        order = frames.argsort()
        tracks[first] = (
            frames[order],
            np.concatenate([tracks[first][1], tracks.pop(second)[1]])[order],
        )
        steps = {pair: step for pair, step in steps.items() if second not in pair}
        steps |= {pair: _step(tracks[pair[0]], tracks[pair[1]]) for pair in steps if first in pair}
    return tracks


def _step(one: Track, other: Track) -> float:
    # the largest step from one track to the other in metres, infinite when they are two people
    frames = np.concatenate([one[0], other[0]])
    order = frames.argsort()
    if not np.diff(frames[order]).all():
        return np.inf
    changes = np.flatnonzero(np.diff(order >= len(one[0])))
    before, after = order[changes], order[changes + 1]
    joints = np.concatenate([one[1], other[1]])
    detected = np.any(joints, axis=-1, keepdims=True)
    both = detected[before] & detected[after]  # (S, 25, 1)
    # NaN without a joint in common
    mean = ((joints[after] - joints[before]) * both).sum(axis=1) / both.sum(axis=1)
    step = np.linalg.norm(mean, axis=-1)
    max_step = np.minimum(
        BASE_STEP + WALKING_SPEED / FRAME_RATE * (frames[after] - frames[before]), MAX_STEP
    )
    return float(step.max()) if (step <= max_step).all() else np.inf


def _remove_undetected(item: tuple[int, Track]) -> tuple[int, Track]:
    body, (frames, joints) = item
    joints = np.where(np.isfinite(joints).all(axis=-1, keepdims=True), joints, 0)
    detected = joints.any(axis=(1, 2))
    return body, (frames[detected], joints[detected])


def _is_wide(joints: np.ndarray) -> bool:
    joints = np.where(joints.any(axis=-1, keepdims=True), joints, np.nan)
    extent = np.nanmax(joints, axis=1) - np.nanmin(joints, axis=1)  # (F, 3)
    return float((extent[:, 0] > MAX_WIDTH_TO_HEIGHT * extent[:, 1]).mean()) >= NOISE_FRACTION


def _motion(joints: np.ndarray) -> float:
    detected = np.any(joints, axis=-1, keepdims=True)  # (F, 25, 1)
    ever = np.any(detected, axis=(0, 2))
    variance = joints[:, ever].var(axis=0, where=detected[:, ever])
    return float(np.nan_to_num(variance.sum(axis=-1).mean()))
