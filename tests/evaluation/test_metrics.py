"""Scores of predictions, by hand."""

import warnings

import pytest
import torch

from slim_fast.evaluation.metrics import score_predictions


def test_scores_by_hand():
    """Three of class 0, two right; one of class 1, right; class 2 is predicted and never occurs."""
    scores = score_predictions(torch.tensor([0, 0, 2, 1]), torch.tensor([0, 0, 0, 1]), 4)
    assert scores.accuracy == 0.75
    assert scores.balanced_accuracy == pytest.approx((2 / 3 + 1) / 2)
    # F1 of class 0 is 2 · 1 · (2/3) / (1 + 2/3), of class 1 is 1, of class 2 is 0
    assert scores.macro_f1 == pytest.approx((0.8 + 1 + 0) / 3)
    assert scores.confusion == [[2, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_nothing_is_said_of_classes_that_are_rare():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score_predictions(torch.tensor([3, 3]), torch.tensor([0, 1]), 5)
