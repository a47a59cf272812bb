import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slim_fast.data import Clip, clean_clip
from slim_fast.errors import UserError

VALUES = st.sampled_from([0.0, 0.0, 0.0, 1.0, -2.5, np.nan, np.inf, -np.inf, 1e39])
POSITIONS = hnp.arrays(np.float64, hnp.array_shapes(min_dims=4, max_dims=4, min_side=0, max_side=3), elements=VALUES)


def slowly_cleaned(positions: np.ndarray) -> np.ndarray | None:
    with np.errstate(over="ignore"):
        positions = positions.astype(np.float32).copy()
    frames, _, _, people = positions.shape
    for t in range(frames):
        for m in range(people):
            if not np.isfinite(positions[t, :, :, m]).all():
                positions[t, :, :, m] = 0
    kept_frames = [t for t in range(frames) if positions[t].any()]
    kept_people = [m for m in range(people) if positions[:, :, :, m].any()]
    return positions[kept_frames][:, :, :, kept_people] if kept_frames else None


@given(POSITIONS)
def test_cleaning_is_what_a_loop_over_person_frames_does(positions: np.ndarray) -> None:
    cleaned, report = clean_clip(Clip(positions, "a"))
    expected = slowly_cleaned(positions)
    if expected is None:
        assert cleaned is None
        assert (report.clips, report.kept, report.zero_frame_clips + report.empty_clips) == (1, 0, 1)
    else:
        assert cleaned is not None
        assert cleaned.positions.dtype == np.float32
        np.testing.assert_array_equal(cleaned.positions, expected)
        assert report.kept == 1
        assert report.frames_dropped == len(positions) - len(expected)
        assert report.people_dropped == positions.shape[3] - expected.shape[3]
        assert report.absent_person_frames == (~expected.any(axis=(1, 2))).sum()


@given(POSITIONS)
def test_cleaning_twice_changes_nothing(positions: np.ndarray) -> None:
    once, _ = clean_clip(Clip(positions, "a"))
    if once is not None:
        twice, report = clean_clip(once)
        assert twice is not None
        np.testing.assert_array_equal(once.positions, twice.positions)
        assert (report.frames_dropped, report.people_dropped, report.nonfinite_person_frames) == (0, 0, 0)


def test_someone_absent_in_the_middle_keeps_zeros_there(walkers) -> None:
    positions = walkers(10, people=2)
    positions[4:6, :, :, 1] = 0
    cleaned, report = clean_clip(Clip(positions, "a"))
    assert cleaned is not None
    np.testing.assert_array_equal(cleaned.positions, positions)
    assert report.absent_person_frames == 2


def test_confidence_alone_makes_nobody_present(walkers) -> None:
    positions = walkers(4, channels=3)
    positions[2, :, :2] = 0
    cleaned, _ = clean_clip(Clip(positions, "a"), channels="xyc")
    assert cleaned is not None
    np.testing.assert_array_equal(cleaned.positions, positions[[0, 1, 3]])


def test_one_frame_is_a_clip(walkers) -> None:
    cleaned, _ = clean_clip(Clip(walkers(1), "a"))
    assert cleaned is not None
    assert cleaned.positions.shape == (1, 25, 3, 1)


def test_reports_add_up(walkers) -> None:
    empty, full = np.zeros((3, 25, 3, 1)), walkers()
    reports = [clean_clip(Clip(x, "a"))[1] for x in (empty, full, full[:0])]
    total = reports[0] + reports[1] + reports[2]
    assert (total.clips, total.kept) == (3, 1)
    assert total.skipped == {"without frames": 1, "empty (nobody in any frame)": 1}


@pytest.mark.parametrize("positions", [np.zeros((2, 25, 3)), np.full((2, 2, 2, 1), "x"), np.full((1, 1, 1, 1), None)])
def test_what_is_no_array_of_numbers_is_refused(positions: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"clip 'odd' .*\(frames, joints, channels, people\)"):
        clean_clip(Clip(positions, "odd"))
