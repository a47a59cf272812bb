"""Curves over the steps of a run."""

import math

import numpy as np
import pytest

from slim_fast import drawing
from slim_fast.drawing import curves
from tests.drawing.conftest import RECORDS

pytest.importorskip("matplotlib")


def test_reference_lines_are_at_log_k(tmp_path, figures):
    drawing.draw_curves(RECORDS, tmp_path / "a.png", prototypes=128)
    titles = [axes.get_title(loc="left") for axes in figures[0].axes]
    assert titles == ["Total loss", "Contrastive loss", "Learning rate"]
    assert len(figures[0].axes[0].lines) == 2
    assert figures[0].axes[1].lines[2].get_ydata()[0] == pytest.approx(math.log(128))
    assert figures[0].axes[1].get_ylim()[1] > math.log(128)


def test_curves_pass_over_what_is_not_there(tmp_path, figures):
    records = [
        {"step": 9, "loss": 1.0},
        {"step": 3, "loss": 2.0},
        {"step": 4, "loss": float("nan")},
        {"step": 5},
    ]
    drawing.draw_curves(records, tmp_path / "a.png")
    assert figures[0].axes[0].lines[0].get_xydata().tolist() == [[3, 2], [9, 1]]


def test_the_running_median_ignores_a_spike_and_follows_a_line():
    steps, values = np.arange(1000.0), np.arange(1000.0) * 2
    spiked = values.copy()
    spiked[500] = 1e9
    at, median = curves.running_median(steps, spiked)
    assert len(at) == 400
    np.testing.assert_allclose(median, 2 * at, atol=3)


def test_knn_lines_are_percentages_at_their_values(tmp_path, figures):
    drawing.draw_knn([0, 5], [0.25, 0.5], {"random": 0.3}, tmp_path / "a.png")
    learned, random = figures[0].axes[0].lines
    assert learned.get_ydata().tolist() == [25, 50]
    assert random.get_ydata()[0] == 30
    assert {text.get_text() for text in figures[0].axes[0].texts} == {"learned 50.0", "random 30.0"}


@pytest.mark.parametrize("last", [1, 20, 5_000, 150_000_000])
def test_ticks_are_whole_steps_without_an_offset(last, tmp_path, figures):
    records = [
        {"step": step, "loss": 1 + 1e-5 * step / last, "samples_per_second": 3e5}
        for step in (last // 2, last)
    ]
    drawing.draw_curves(records, tmp_path / "a.png")
    drawing.draw_knn([last // 2, last], [0.1, 0.2], {}, tmp_path / "b.png")
    for axes in (axes for figure in figures for axes in figure.axes):
        axes.figure.draw_without_rendering()
        assert not axes.xaxis.get_offset_text().get_text()
        assert not axes.yaxis.get_offset_text().get_text()
        ticks = [
            text.get_text().replace(",", "").replace("M", "e6") for text in axes.get_xticklabels()
        ]
        assert all(float(tick).is_integer() for tick in ticks)


def test_labels_are_spread_no_further_than_needed():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.uniform(0, 100, 6)
        heights = np.array(curves.spread_labels(values, 5, 0, 100))
        assert (np.diff(heights[np.argsort(values)]) >= 5 - 1e-9).all()
        assert 0 <= heights.min() <= heights.max() <= 100
    assert curves.spread_labels([10, 50, 90], 5, 0, 100) == [10, 50, 90]
    assert curves.spread_labels([50, 50], 4, 0, 100) == [48, 52]
    assert curves.spread_labels([100, 100], 4, 0, 100) == [96, 100]


def test_numbers_are_short():
    assert [curves.format_number(x) for x in (0, 1.5e-4, 2e6, -3e-5)] == [
        "0",
        "1.5e-4",
        "2e6",
        "-3e-5",
    ]
