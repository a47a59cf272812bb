"""Shares of labels."""

import numpy as np
import pytest

from slim_fast.errors import UserError
from slim_fast.evaluation.tuning.subsets import draw_subset

LABELS = np.repeat([0, 1, 2, 5], [100, 40, 14, 3])


@pytest.mark.parametrize(
    ("fraction", "counts"), [(0.01, [1, 1, 1, 1]), (0.1, [10, 4, 1, 1]), (1.0, [100, 40, 14, 3])]
)
def test_balanced_ones_have_the_share_of_every_class_and_at_least_one(fraction, counts):
    rows = draw_subset(LABELS, fraction, True, 0)
    assert [int((LABELS[rows] == label).sum()) for label in (0, 1, 2, 5)] == counts
    assert len(set(rows.tolist())) == len(rows)
    assert (np.diff(rows) > 0).all()


@pytest.mark.parametrize(("fraction", "count"), [(0.01, 2), (0.1, 16), (1e-9, 1), (1.0, 157)])
def test_random_ones_have_the_share_of_all(fraction, count):
    rows = draw_subset(LABELS, fraction, False, 0)
    assert len(set(rows.tolist())) == count


@pytest.mark.parametrize("balanced", [True, False])
def test_the_seed_decides(balanced):
    first, again, other = (draw_subset(LABELS, 0.1, balanced, seed) for seed in (3, 3, 4))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, float("nan")])
def test_other_shares_are_refused(fraction):
    with pytest.raises(UserError, match="give one above 0, at most 1"):
        draw_subset(LABELS, fraction, True, 0)
