"""k-nearest neighbours and retrieval by cosine similarity (section 4 of the paper)."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.07
_RESOLUTION = 1e-7  # of similarities; a smaller difference is rounding of float32 features
_ROWS = 512  # test rows at a time


def compute_knn_accuracy(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    neighbours: tuple[int, ...] = (1,),
) -> dict[int, float]:
    """Accuracy of weighted k-NN for each k of `neighbours` that is at most N, by k.

    train (N, D) and test (S, D) float; labels int64. Votes and ties: see `predict_knn`.
    """
    predicted = predict_knn(train, train_labels, test, neighbours)
    return {k: int((p == test_labels).sum()) / len(test) for k, p in predicted.items()}


def predict_knn(
    train: Tensor, train_labels: Tensor, test: Tensor, neighbours: tuple[int, ...] = (1,)
) -> dict[int, Tensor]:
    """Classes int64 (S,) by weighted k-NN for each k of `neighbours` that is at most N, by k.

    train (N, D) and test (S, D) float; labels int64. Votes are weighted by exp(cosine / 0.07). Ties
    are broken by a rule, so that neither threads nor rounding change the result: among equally near
    training rows the first is the nearer, among classes with equal votes the lowest wins.
    """
    ks = [k for k in neighbours if k <= len(train)]
    classes = int(train_labels.max()) + 1
    found: dict[int, list[Tensor]] = {k: [] for k in ks}
    for rows, steps in rank_neighbours(train, test, max(ks)):
        votes = (steps.double() * (_RESOLUTION / TEMPERATURE)).exp()
        labels = train_labels[rows]
        for k in ks:
            total = votes.new_zeros(len(rows), classes).scatter_add_(1, labels[:, :k], votes[:, :k])
            best = (total > total.amax(1, keepdim=True) * (1 - 1e-9)).int().argmax(1)
            found[k].append(best)
    return {k: torch.cat(parts) for k, parts in found.items()}


def rank_neighbours(train: Tensor, test: Tensor, k: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The k nearest training rows of some test rows after the others, nearest first.

    Yields int64 (s, k) training rows and their cosines in steps of 1e-7; of equally near rows the
    first comes first.
    """
    train, test = F.normalize(train.double(), dim=-1), F.normalize(test.double(), dim=-1)
    # one integer a pair, similarity * N + (N - 1 - row): topk then prefers the first of equal rows
    reversed_row = torch.arange(len(train)).flip(0)
    for rows in torch.arange(len(test)).split(_ROWS):
        similarity = (test[rows] @ train.t() / _RESOLUTION).round_().long()
        pairs = (similarity * len(train) + reversed_row).topk(k, dim=1).values
        steps = pairs.div(len(train), rounding_mode="floor")
        yield len(train) - 1 - pairs.remainder(len(train)), steps
