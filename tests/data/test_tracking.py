import numpy as np
import pytest

from slim_fast.data.readers.tracking import MAX_PEOPLE, Tracker, follow_people

POSE = np.array([[0, 0], [0, 2], [1, 0], [1, 2]]) + 10.0  # (V, 2), box of diagonal 5**.5


def beside(distance: float) -> np.ndarray:
    return POSE + np.array([distance, 0])


def walk(start: float, speed: float, frames: int = 20) -> np.ndarray:
    return POSE + np.array([start, 0]) + speed * np.arange(frames)[:, None, None] * [1, 0]


def test_everybody_keeps_their_place_whatever_the_order() -> None:
    rng = np.random.default_rng(0)
    people = np.stack([walk(0, 0.1), walk(3, -0.05), walk(8, 0.0)], axis=1)  # (T, M, V, 2)
    found = follow_people([frame[rng.permutation(3)] for frame in people])
    assert found.shape == (20, 4, 2, 3)
    starts = sorted(found[0, 0, 0].tolist())
    assert starts == [10, 13, 18]
    for m in range(3):
        own = starts.index(found[0, 0, 0, m])
        np.testing.assert_array_equal(found[..., m], people[:, own])


def test_all_of_a_frame_are_assigned_at_once() -> None:
    # the nearest to A's place is B, but A is nowhere else
    before = np.stack([POSE, beside(0.6)])
    after = np.stack([beside(0.6), beside(1.2)])
    found = follow_people([before, after])
    assert found.shape[3] == 2
    assert sorted((found[1, 0, 0] - found[0, 0, 0]).round(6)) == [0.6, 0.6]


def test_who_comes_from_afar_is_new_and_who_was_gone_comes_back() -> None:
    one, other = beside(20)[None], beside(90)[None]
    here, far = np.concatenate([one, POSE[None]]), np.concatenate([other, one])
    found = follow_people([here, one, here, far, far, far])
    np.testing.assert_array_equal(
        found.any(axis=(1, 2)).T, [[1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 0, 0]]
    )


def test_somebody_alone_is_one_person_however_far_they_move() -> None:
    nobody = np.zeros((0, 4, 2))
    frames = [POSE[None], *[nobody] * 99, beside(50)[None], np.zeros((1, 4, 2)), beside(0)[None]]
    found = follow_people(frames)
    assert found.shape[3] == 1
    assert np.flatnonzero(found.any(axis=(1, 2, 3))).tolist() == [0, 100, 102]


def test_after_too_long_it_is_somebody_new() -> None:
    one = beside(20)[None]
    both = np.concatenate([one, POSE[None]])
    for gap, people in ((29, 2), (30, 3)):
        assert follow_people([both, *[one] * gap, both]).shape[3] == people


def test_undetected_joints_do_not_count() -> None:
    half = POSE.copy()
    half[:2] = 0
    bad = POSE.copy()
    bad[2:] = np.nan
    found = follow_people([POSE[None], half[None], POSE[None], bad[None]])
    assert found.shape[3] == 1
    np.testing.assert_array_equal(found[1, :2, :, 0], 0)


def test_keys_tell_people_apart_whose_positions_do_not() -> None:
    same = np.stack([POSE, POSE])
    places = np.stack([POSE, beside(9)])
    swapped = [places, places[::-1], places]
    values = [np.stack([POSE, 2 * POSE]), np.stack([2 * POSE, POSE]), np.stack([POSE, 2 * POSE])]
    found = follow_people(values, swapped)
    assert {float(found[0, 0, 0, m]) for m in range(2)} == {10, 20}
    assert (found == found[:1]).all()
    assert follow_people([same, same]).shape == (2, 4, 2, 2)


def test_only_the_longest_of_a_crowd_stay() -> None:
    crowd = np.stack([beside(9.0 * m) for m in range(MAX_PEOPLE + 5)])
    found = follow_people([crowd, crowd[:3]])
    assert found.shape[3] == MAX_PEOPLE
    assert (found[1].any(axis=(0, 1))).sum() == 3


@pytest.mark.parametrize("frames", [[], [np.zeros((0, 4, 2))], [np.zeros((2, 4, 2))]])
def test_nobody(frames) -> None:
    assert follow_people(frames).shape[3] == 0


def test_frame_by_frame_everybody_has_the_number_that_the_whole_gives_them() -> None:
    rng = np.random.default_rng(0)
    people = np.stack([walk(0, 0.1), walk(3, -0.05), walk(8, 0.0)], axis=1)  # (T, M, V, 2)
    people[5:9, 2] = 0
    tracker, numbers = Tracker(), []
    for frame in people:
        order = rng.permutation(3)
        found = tracker.update(frame[order])
        numbers.append([found[order.tolist().index(m)] for m in range(3)])
    assert sorted(numbers[0]) == [0, 1, 2]
    gone = [*numbers[0][:2], -1]
    assert numbers == [gone if 5 <= t < 9 else numbers[0] for t in range(20)]
    assert tracker.update(np.zeros((0, 4, 2))) == []
