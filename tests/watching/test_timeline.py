"""Windows become seconds, and seconds segments."""

import numpy as np
import pytest

from slim_fast.watching.timeline import NOBODY, Segment, Timeline

A, B = np.array([0.8, 0.2]), np.array([0.1, 0.9])


def test_a_second_is_the_mean_of_the_windows_that_reach_into_it():
    line = Timeline(2)
    line.add(0.0, 1.5, A)
    line.add(0.5, 2.0, B)
    line.add(2.0, 3.0, None)
    want = [(1.0 * A + 0.5 * B) / 1.5, (0.5 * A + 1.0 * B) / 1.5]
    np.testing.assert_allclose(line.seconds[:2, :2], want)
    np.testing.assert_allclose(line.seconds[:, 2], [0, 0, 1])


def test_a_lone_second_is_filtered_and_edges_stay():
    line = Timeline(2)
    for second, label in enumerate("aaabaaabbbb"):
        line.add(second, second + 1, A if label == "a" else B)
    assert [(s.start, s.end, s.label) for s in line.segments(3, 10.4)] == [
        (0, 7, 0),
        (7, 10.4, 1),
    ]
    assert [s.label for s in line.segments(1, 11)] == [0, 1, 0, 1]
    assert line.segments(3, 11)[1] == Segment(7, 11, 1, pytest.approx(0.9))


def test_seconds_without_anybody_are_a_segment_of_nobody():
    line = Timeline(2)
    line.add(0.0, 2.0, A)
    line.add(5.0, 7.0, B)
    assert [(s.start, s.end, s.label) for s in line.segments(1, 7)] == [
        (0, 2, 0),
        (2, 5, NOBODY),
        (5, 7, 1),
    ]
    assert Timeline(2).segments(3, 0) == []
