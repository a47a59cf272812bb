"""k-NN against loops over pairs of rows."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slim_fast.evaluation.knn import compute_knn_accuracy


def brute_force(train, train_labels, test, test_labels, k: int) -> float:
    hits = 0
    for row, label in zip(test.tolist(), test_labels.tolist(), strict=True):
        scored = []
        for other, other_label in zip(train.tolist(), train_labels.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(row, other, strict=True))
            scored.append((dot / math.hypot(*row) / math.hypot(*other), other_label))
        votes: dict[int, float] = {}
        for cosine, other_label in sorted(scored, reverse=True)[:k]:
            votes[other_label] = votes.get(other_label, 0.0) + math.exp(cosine / 0.07)
        hits += max(votes, key=votes.__getitem__) == label
    return hits / len(test)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6), n=st.integers(1, 25), s=st.integers(1, 10), width=st.integers(1, 6)
)
def test_equals_brute_force(seed, n, s, width):
    torch.manual_seed(seed)
    train, test = torch.randn(n, width) * 3, torch.randn(s, width)
    if width == 1:  # cosines of ±1 only: neighbours would be chosen among ties
        train, test = (
            torch.cat([train, torch.randn(n, 1)], 1),
            torch.cat([test, torch.randn(s, 1)], 1),
        )
    labels, test_labels = torch.randint(4, (n,)), torch.randint(4, (s,))
    got = compute_knn_accuracy(train, labels, test, test_labels, (1, 3, 10, 20))
    assert list(got) == [k for k in (1, 3, 10, 20) if k <= n]
    for k, accuracy in got.items():
        assert accuracy == pytest.approx(brute_force(train, labels, test, test_labels, k))


def test_nearer_neighbours_weigh_more():
    """One close neighbour of class 1 outvotes two distant ones of class 0."""
    angle = torch.tensor([5.0, 40.0, -40.0]).deg2rad()
    train = torch.stack([angle.cos(), angle.sin()], 1)
    test = torch.tensor([[1.0, 0.0]])
    assert compute_knn_accuracy(train, torch.tensor([1, 0, 0]), test, torch.tensor([1]), (3,)) == {
        3: 1.0
    }
    assert math.exp(math.cos(math.radians(5)) / 0.07) > 2 * math.exp(
        math.cos(math.radians(40)) / 0.07
    )


def test_lengths_do_not_matter_and_many_rows_come_in_parts():
    train, test = torch.randn(50, 8), torch.randn(2500, 8)
    labels = torch.randint(5, (50,))
    nearest = torch.stack([(train / train.norm(dim=1, keepdim=True)) @ row for row in test]).argmax(
        1
    )
    scales = torch.rand(2500, 1) * 10 + 0.1
    assert compute_knn_accuracy(train, labels, test * scales, labels[nearest]) == {1: 1.0}


def test_unknown_test_classes_and_empty_features_do_no_harm():
    train, labels = torch.randn(10, 4), torch.randint(2, (10,))
    assert compute_knn_accuracy(train, labels, torch.randn(4, 4), torch.full((4,), 7)) == {1: 0.0}
    assert compute_knn_accuracy(
        train, labels, torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)
    )[1] in (
        0.0,
        0.5,
        1.0,
    )


def test_ties_go_to_the_first_row_and_the_lowest_class():
    train = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1e-5]])
    labels = torch.tensor([2, 1, 0, 0])
    assert compute_knn_accuracy(train, labels, torch.tensor([[2.0, 0.0]]), torch.tensor([2])) == {
        1: 1.0
    }
    assert compute_knn_accuracy(
        train, labels, torch.tensor([[2.0, 0.0]]), torch.tensor([1]), (1, 2)
    ) == {
        1: 0.0,
        2: 1.0,
    }
