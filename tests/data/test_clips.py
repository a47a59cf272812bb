import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slim_fast.data import Clip, clean_clip
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology

VALUES = st.sampled_from([0.0, 0.0, 0.0, 1.0, -2.5, np.nan, np.inf, -np.inf, 1e39])
POSITIONS = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=4, max_dims=4, min_side=0, max_side=3), elements=VALUES
)


def slowly_cleaned(positions: np.ndarray) -> tuple[np.ndarray, int] | None:
    """Joint by joint, frame by frame: the people as they come, and how many frames were
    interpolated.
    """
    with np.errstate(over="ignore"):
        positions = positions.astype(np.float32).copy()
    frames, joints, _, people = positions.shape
    for t in range(frames):
        for v in range(joints):
            for m in range(people):
                if not np.isfinite(positions[t, v, :, m]).all():
                    positions[t, v, :, m] = 0
    kept_frames = [t for t in range(frames) if positions[t].any()]
    kept_people = [m for m in range(people) if positions[:, :, :, m].any()]
    if not kept_frames:
        return None
    empty = [t for t in range(kept_frames[0], kept_frames[-1]) if t not in kept_frames]
    filled = []
    for t in empty:
        before = max(k for k in kept_frames if k < t)
        after = min(k for k in kept_frames if k > t)
        share = np.float32((t - before) / (after - before))
        for v in range(joints):
            for m in range(people):
                a, b = positions[before, v, :, m], positions[after, v, :, m]
                if a.any() and b.any():
                    positions[t, v, :, m] = a * (1 - share) + b * share
                    filled.append(t)
    kept_frames = sorted({*kept_frames, *filled})
    return positions[kept_frames][:, :, :, kept_people], len(set(filled))


def as_set(positions: np.ndarray) -> list[bytes]:
    """The people in no order."""
    return sorted(
        np.ascontiguousarray(person).tobytes() for person in np.moveaxis(positions + 0.0, 3, 0)
    )


@given(POSITIONS)
def test_cleaning_is_what_a_loop_over_joints_does(positions: np.ndarray) -> None:
    cleaned, report = clean_clip(Clip(positions, "a"))
    slowly = slowly_cleaned(positions)
    if slowly is None:
        assert cleaned is None
        assert (report.clips, report.kept, report.zero_frame_clips + report.empty_clips) == (
            1,
            0,
            1,
        )
    else:
        expected, filled = slowly
        assert cleaned is not None
        assert cleaned.positions.dtype == np.float32
        assert as_set(cleaned.positions) == as_set(expected)
        assert (report.kept, report.frames_interpolated) == (1, filled)
        assert report.frames_dropped == len(positions) - len(expected)
        assert report.people_dropped == positions.shape[3] - expected.shape[3]
        there = expected.any(axis=(1, 2))
        assert report.absent_person_frames == (~there).sum()
        assert report.undetected_joint_frames == (~expected.any(axis=2) & there[:, None]).sum()
        with np.errstate(over="ignore"):
            assert (
                report.nonfinite_joint_frames
                == (~np.isfinite(positions.astype("f4")).all(axis=2)).sum()
            )


@given(POSITIONS)
def test_cleaning_twice_changes_nothing(positions: np.ndarray) -> None:
    once, _ = clean_clip(Clip(positions, "a"))
    if once is not None:
        twice, report = clean_clip(once)
        assert twice is not None
        np.testing.assert_array_equal(once.positions, twice.positions)
        assert (report.frames_dropped, report.people_dropped, report.nonfinite_joint_frames) == (
            0,
            0,
            0,
        )
        assert report.frames_interpolated == 0


def test_a_number_that_is_not_finite_drops_its_joint_only(walkers) -> None:
    positions = walkers(10)
    expected = positions.copy()
    positions[3, 7, 1, 0], positions[5, 2, 0, 0] = np.nan, np.inf
    expected[3, 7], expected[5, 2] = 0, 0
    cleaned, report = clean_clip(Clip(positions, "a"))
    assert cleaned is not None
    np.testing.assert_array_equal(cleaned.positions, expected)
    assert (report.nonfinite_joint_frames, report.undetected_joint_frames) == (2, 2)


@pytest.mark.parametrize("score", [0.0, -1.0, np.nan])
def test_a_joint_without_confidence_is_undetected(walkers, score) -> None:
    positions = walkers(6, channels=3)
    positions[2, 4, 2] = score
    cleaned, report = clean_clip(Clip(positions, "a"), "xyc")
    assert cleaned is not None
    assert not cleaned.positions[2, 4].any()
    assert report.undetected_joint_frames == 1
    assert (cleaned.positions != 0).all(axis=2).sum() == 6 * 25 - 1


def test_frames_without_anybody_keep_the_tempo(walkers) -> None:
    """A person who moves evenly goes on to do so over frames that were lost; nothing is made up at
    the ends.
    """
    moving = walkers(1)[0] + np.linspace(1, 2, 21, dtype=np.float32)[:, None, None, None]
    lost = moving.copy()
    lost[[0, 1, 5, 9, 10, 11, 20]] = 0
    cleaned, report = clean_clip(Clip(lost, "a"))
    assert cleaned is not None
    np.testing.assert_allclose(cleaned.positions, moving[2:20], rtol=1e-5)
    assert (report.frames_dropped, report.frames_interpolated) == (3, 4)


def test_nobody_is_made_up_between_two_different_people(walkers) -> None:
    positions = walkers(10, people=2)
    positions[4:] *= [0, 1]
    positions[:6] *= [1, 0]
    cleaned, report = clean_clip(Clip(positions, "a"))
    assert cleaned is not None
    assert (len(cleaned.positions), report.frames_interpolated, report.frames_dropped) == (8, 0, 2)


def test_the_origin_of_centred_clips_is_a_place(walkers) -> None:
    """The centre joint's exact zeros stay told apart from joints that were not detected."""
    ntu = get_topology("ntu-25")
    raw = walkers(10)
    raw[:, [0, 20, 12, 16]] = raw[:, [1]] + np.float32([0.1, 0.2, 0.3, 0.4])[:, None, None]
    for centred in (raw - raw[:1, 1:2], raw - raw[:, 1:2], raw - raw[:, :1]):
        cleaned, report = clean_clip(Clip(centred, "a"), "xyz", ntu)
        assert cleaned is not None
        assert report.undetected_joint_frames == 0
        np.testing.assert_allclose(cleaned.positions, centred, atol=1e-19)
        assert (cleaned.positions != 0).any(axis=2).all()
    far = raw + np.float32(5)
    far[:3, 1] = 0
    assert clean_clip(Clip(far, "a"), "xyz", ntu)[1].undetected_joint_frames == 3
    alone = raw - raw[:, 1:2]
    alone[:, 2:] = alone[:, 0:1] = 0
    assert clean_clip(Clip(alone, "a"), "xyz", ntu)[0] is None  # a zero beside nothing is no joint


def test_people_are_ranked_by_stay_then_motion_then_score(walkers) -> None:
    still = np.repeat(walkers(1, channels=3, people=5), 40, axis=0)
    still[:, :, 2] = [[0.5, 0.5, 0.5, 0.9, 0.5]]
    still[::2, :, 0, 1] += 0.2  # moves
    still[::2, :, 0, 2] += 0.5  # moves more, and is lost for a moment
    still[17, :, :, 2] = 0
    still[8:, :, :, 4] = 0  # gone soon, scores as the others
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [3, 0, 4, 2, 1]):
        cleaned, _ = clean_clip(Clip(still[..., order], "a"), "xyc")
        assert cleaned is not None
        np.testing.assert_array_equal(cleaned.positions, still[..., [2, 1, 3, 0, 4]])


def test_someone_absent_in_the_middle_keeps_zeros_there(walkers) -> None:
    positions = walkers(10, people=2)
    positions[::2, ..., 0] += 1  # ranks first
    positions[4:6, :, :, 1] = 0
    cleaned, report = clean_clip(Clip(positions, "a"))
    assert cleaned is not None
    np.testing.assert_array_equal(cleaned.positions, positions)
    assert report.absent_person_frames == 2


def test_confidence_alone_makes_nobody_present(walkers) -> None:
    positions = walkers(4, channels=3)
    positions[[0, 3], :, :2] = 0
    cleaned, _ = clean_clip(Clip(positions, "a"), channels="xyc")
    assert cleaned is not None
    np.testing.assert_array_equal(cleaned.positions, positions[[1, 2]])


def test_one_frame_is_a_clip(walkers) -> None:
    cleaned, _ = clean_clip(Clip(walkers(1), "a"))
    assert cleaned is not None
    assert cleaned.positions.shape == (1, 25, 3, 1)


def test_reports_add_up(walkers) -> None:
    empty, full = np.zeros((3, 25, 3, 1)), walkers()
    reports = [clean_clip(Clip(x, "a"))[1] for x in (empty, full, full[:0])]
    total = reports[0] + reports[1] + reports[2]
    assert (total.clips, total.kept) == (3, 1)
    assert total.skipped == {"without frames": 1, "empty (no person in any frame)": 1}


@pytest.mark.parametrize(
    "positions", [np.zeros((2, 25, 3)), np.full((2, 2, 2, 1), "x"), np.full((1, 1, 1, 1), None)]
)
def test_what_is_no_array_of_numbers_is_refused(positions: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"clip 'odd' .*\(frames, joints, channels, people\)"):
        clean_clip(Clip(positions, "odd"))
