"""Retrieval by hand, and against scikit-learn."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score

from slim_fast.evaluation.knn import compute_knn_accuracy, predict_knn
from slim_fast.evaluation.retrieval import compute_retrieval


def test_by_hand():
    """Cosines fall with the angle: for the query at 0° the ranks are a, b, a, b."""
    angles = torch.tensor([10.0, 20.0, 30.0, 40.0]).deg2rad()
    gallery = torch.stack([angles.cos(), angles.sin()], 1)
    labels = torch.tensor([0, 1, 0, 1])
    queries = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    precision, recall = compute_retrieval(
        gallery, labels, queries, torch.tensor([0, 1, 2]), (1, 2, 4, 5)
    )
    # a: (1/1 + 2/3) / 2; b: (1/2 + 2/4) / 2; the gallery has none of the third class
    assert precision == pytest.approx((5 / 6 + 1 / 2 + 0) / 3)
    assert recall == pytest.approx({1: 1 / 3, 2: 2 / 3, 4: 2 / 3})


def test_agrees_with_scikit_learn():
    gallery, queries = torch.randn(60, 8), torch.randn(700, 8)  # more than are ranked at a time
    labels, own = torch.arange(60) % 4, torch.randint(4, (700,))
    cosine = F.normalize(queries, dim=1) @ F.normalize(gallery, dim=1).t()
    wanted = [
        average_precision_score((labels == label).numpy(), row.numpy())
        for row, label in zip(cosine, own, strict=True)
    ]
    precision, recall = compute_retrieval(gallery, labels, queries, own, (1,))
    assert precision == pytest.approx(sum(wanted) / 700, abs=1e-4)
    assert recall[1] == compute_knn_accuracy(gallery, labels, queries, own)[1]


def test_predictions_are_those_that_accuracy_counts():
    train, test = torch.randn(50, 5), torch.randn(20, 5)
    labels, own = torch.arange(50) % 3, torch.randint(3, (20,))
    predicted = predict_knn(train, labels, test, (1, 10, 100))
    assert predicted.keys() == {1, 10}
    accuracy = compute_knn_accuracy(train, labels, test, own, (1, 10))
    assert {k: (p == own).double().mean().item() for k, p in predicted.items()} == accuracy
