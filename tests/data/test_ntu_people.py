from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slim_fast.data.readers.ntu_people import Bodies, Track, join_tracks, select_people

A, B, C = 1, 2, 3
FRAMES = 90


def body(walkers, frames: int = 20, motion: float = 1.0, seed: int = 0) -> np.ndarray:
    still = walkers(1, seed=seed)[0, :, :, 0]
    return still + motion * np.sin(np.arange(frames))[:, None, None] * 0.1  # (T, 25, 3)


@pytest.mark.parametrize(
    ("stray", "why"),
    [
        (lambda x: x[:11], "tracked in 11 frames only"),
        (lambda x: x[:, :, [1, 0, 2]], "lying: wider than high in every frame"),
        (lambda x: x * 0, "all joints zero"),
        (lambda x: x * np.nan, "no finite joint"),
    ],
)
def test_stray_bodies_are_removed_unless_nobody_else_is_there(walkers, stray, why) -> None:
    person = np.arange(20), body(walkers, motion=0.1)
    joints = stray(body(walkers, motion=5.0, seed=1))
    noise = np.arange(len(joints)), joints
    assert list(select_people({A: noise, B: person})) == [B], why
    alone = select_people({A: noise})
    assert list(alone) == ([A] if np.isfinite(joints).all() and joints.any() else []), why


def test_twelve_frames_and_a_few_wide_ones_are_a_person(walkers) -> None:
    joints = body(walkers)
    joints[:13] = joints[:13][:, :, [1, 0, 2]]  # 65 % of the frames; the limit is 69.754 %
    assert set(
        select_people({A: (np.arange(20), joints), B: (np.arange(12), body(walkers, 12))})
    ) == {A, B}
    joints[13] = joints[13][:, [1, 0, 2]]  # 70 %
    assert set(
        select_people({A: (np.arange(20), joints), B: (np.arange(12), body(walkers, 12))})
    ) == {B}


def test_of_three_the_two_with_most_motion_stay(walkers) -> None:
    bodies = {
        track: (np.arange(20), body(walkers, motion=motion))
        for track, motion in ((A, 1.0), (B, 3.0), (C, 2.0))
    }
    assert list(select_people(bodies)) == [B, C]


def person(x: float = 0, speed: float = 0, frames: int = FRAMES, z: float = 3) -> Track:
    """Somebody who waves at x metres, or walks from there at `speed` metres a second along x."""
    rng = np.random.default_rng(0)
    pose = rng.uniform(-0.2, 0.2, (25, 3)) + np.linspace(-0.8, 0.8, 25)[:, None] * [0, 1, 0]
    time = np.arange(frames)
    joints = np.repeat(pose[None], frames, axis=0)
    joints[:, 5:8, 1] += 0.3 * np.sin(time / 5)[:, None]
    return time, joints + np.stack([x + speed * time / 30, 0 * time, z + 0 * time], axis=1)[:, None]


def part(track: Track, first: int, end: int = FRAMES) -> Track:
    return track[0][first:end], track[1][first:end]


def tracks(bodies: Bodies) -> list[tuple[list[int], bytes]]:
    return sorted((frames.tolist(), joints.tobytes()) for frames, joints in bodies.values())


def cut(track: Track, edges: list[int], lost: int = 0) -> list[Track]:
    """Pieces of a track between `edges`, each but the first beginning up to `lost` frames late."""
    bounds = [0, *sorted(set(edges)), len(track[0])]
    return [
        part(track, min(first + lost * (first > 0), end - 1), end)
        for first, end in pairwise(bounds)
    ]


edges = st.lists(st.integers(1, FRAMES - 1), max_size=12)


@settings(max_examples=60, deadline=None)
@given(edges, edges, st.integers(0, 5), st.randoms(use_true_random=False))
def test_people_in_pieces_are_whole_whatever_the_pieces_are_called(
    of_one, of_two, lost, random
) -> None:
    # two people, one of them walking, cut anywhere, even into pieces that alone would count as
    # noise
    pieces = cut(person(), of_one) + cut(person(1.5, speed=0.4), of_two, lost)
    ids = random.sample(range(1 << 60), len(pieces))
    random.shuffle(pieces)
    chosen = select_people(dict(zip(ids, pieces, strict=True)))
    kept = [frame for piece in cut(person(1.5), of_two, lost) for frame in piece[0]]
    assert sorted(frames.tolist() for frames, _ in chosen.values()) == sorted(
        [list(range(FRAMES)), kept]
    )
    for frames, joints in chosen.values():
        first = person() if joints[0, 0, 0] == person()[1][0, 0, 0] else person(1.5, speed=0.4)
        np.testing.assert_array_equal(joints, first[1][frames])


@pytest.mark.parametrize("first", range(1, FRAMES))
def test_a_changed_id_pushes_nobody_out(first) -> None:
    one, two = person(), person(2)
    bodies = {A: part(one, 0, first), B: part(one, first), C: two}
    assert tracks(select_people(bodies)) == tracks({A: one, C: two})
    comes = part(two, first, first + 30)  # the other is there from the change on
    assert tracks(select_people(bodies | {C: comes})) == tracks(
        {A: one, C: comes} if len(comes[0]) > 11 else {A: one}
    )


@pytest.mark.parametrize("lost", [0, 5, 15])
def test_people_who_cross_and_lose_their_ids_there_stay_themselves(lost) -> None:
    # they pass each other in frame 45
    one, two = person(-1.2, speed=0.8), person(1.2, speed=-0.8, z=3.8)
    for first in (30, 44, 45, 46, 60):
        behind = {A: one, B: part(two, 0, first), C: part(two, first + lost)}
        assert {len(frames) for frames, _ in select_people(behind).values()} == {
            FRAMES,
            FRAMES - lost,
        }
        assert list(join_tracks(behind)) == [A, B]
    both = {1: part(one, 0, 45), 2: part(one, 46), 3: part(two, 0, 45), 4: part(two, 46)}
    assert {tuple(joints[:, 0, 2]) for _, joints in select_people(both).values()} == {
        tuple(part(track, 1)[1][:, 0, 2]) for track in (one, two)
    }


def test_ids_that_take_turns_are_one_person() -> None:
    frames, joints = person()
    turns = {A: (frames[::2], joints[::2]), B: (frames[1::2], joints[1::2])}
    assert tracks(select_people(turns)) == tracks({A: (frames, joints)})


@pytest.mark.parametrize(
    ("metres", "gap", "one"),
    [
        (0.5, 1, True),
        (0.6, 1, False),
        (0.9, 10, True),
        (0.9, 5, False),
        (0.95, 60, True),
        (1.1, 60, False),
    ],
)
def test_how_far_somebody_gets_unseen(metres, gap, one) -> None:
    bodies = {A: part(person(), 0, 20), B: part(person(metres), 19 + gap)}
    assert len(join_tracks(bodies)) == (1 if one else 2)


def test_the_nearest_of_those_who_appear_is_the_one_who_was_lost() -> None:
    bodies = {A: part(person(), 0, 40), B: part(person(0.4), 42), C: part(person(-0.1), 44)}
    assert {body: len(frames) for body, (frames, _) in join_tracks(bodies).items()} == {
        A: 86,
        B: 48,
    }


def test_a_missing_joint_costs_neither_the_frame_nor_the_person() -> None:
    frames, joints = person()
    joints[10, 3, 1], joints[20, 4], joints[30] = np.nan, 0, np.inf
    joints[44:46, :12] = 0  # half of them undetected where the id changes: the other half tells
    chosen = select_people({A: part((frames, joints), 0, 45), B: part((frames, joints), 45)})
    assert list(chosen) == [A]
    assert chosen[A][0].tolist() == [t for t in range(FRAMES) if t != 30]
    assert not chosen[A][1][10, 3].any()
    np.testing.assert_array_equal(np.delete(chosen[A][1][10], 3, 0), np.delete(joints[10], 3, 0))
