"""k-nearest-neighbour accuracy by cosine similarity (section 4 of the paper, "retrieval")."""

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

    train (N, D) and test (S, D) float; labels int64. Votes are weighted by exp(cosine / 0.07). Ties
    are broken by a rule, so that neither threads nor rounding change the result: among equally near
    training rows the first is the nearer, among classes with equal votes the lowest wins.
    """
    train, test = F.normalize(train.double(), dim=-1), F.normalize(test.double(), dim=-1)
    ks = [k for k in neighbours if k <= len(train)]
    classes = int(torch.cat([train_labels, test_labels]).max()) + 1
    hits = dict.fromkeys(ks, 0)
    # one integer a pair, similarity * N + (N - 1 - row): topk then prefers the first of equal rows
    reversed_row = torch.arange(len(train)).flip(0)
    for rows in torch.arange(len(test)).split(_ROWS):
        similarity = (test[rows] @ train.t() / _RESOLUTION).round_().long()
        pairs = (similarity * len(train) + reversed_row).topk(max(ks), dim=1).values
        steps = pairs.div(len(train), rounding_mode="floor").double()
        votes = (steps * (_RESOLUTION / TEMPERATURE)).exp()
        labels = train_labels[len(train) - 1 - pairs.remainder(len(train))]
        for k in ks:
            total = votes.new_zeros(len(rows), classes).scatter_add_(1, labels[:, :k], votes[:, :k])
            best = (total > total.amax(1, keepdim=True) * (1 - 1e-9)).int().argmax(1)
            hits[k] += int((best == test_labels[rows]).sum())
    return {k: hit / len(test) for k, hit in hits.items()}
