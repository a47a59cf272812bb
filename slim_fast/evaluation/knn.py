"""k-nearest-neighbour accuracy by cosine similarity (paper section 4, "retrieval")."""

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.07


def knn_accuracy(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, neighbours: tuple[int, ...] = (1,)
) -> dict[int, float]:
    """Share of the test rows whose neighbours vote for their label, for each number of neighbours.

    train (N, D), test (S, D) float; labels int64. Votes are weighted by exp(cosine / 0.07). Neighbours beyond N are
    left out of the result, k = 1 never.
    """
    train, test = F.normalize(train.float(), dim=-1), F.normalize(test.float(), dim=-1)
    kept = [k for k in neighbours if k <= len(train)]
    classes = int(torch.cat([train_labels, test_labels]).max()) + 1
    hits = dict.fromkeys(kept, 0)
    for rows in torch.arange(len(test)).split(1024):
        similarity, index = (test[rows] @ train.t()).topk(max(kept), dim=1)
        votes = (similarity / TEMPERATURE).exp()
        labels = train_labels[index]
        for k in kept:
            tally = votes.new_zeros(len(rows), classes).scatter_add_(1, labels[:, :k], votes[:, :k])
            hits[k] += int((tally.argmax(1) == test_labels[rows]).sum())
    return {k: hit / len(test) for k, hit in hits.items()}
