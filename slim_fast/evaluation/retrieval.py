"""Retrieval: test clips are queries, training clips the gallery, ranked by cosine similarity."""

import torch
from torch import Tensor

from slim_fast.evaluation.knn import rank_neighbours


def compute_retrieval(
    gallery: Tensor,
    gallery_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    ranks: tuple[int, ...] = (1, 5, 10),
) -> tuple[float, dict[int, float]]:
    """Mean average precision, and recall@k for each k of `ranks` that is at most N.

    gallery (N, D) and queries (S, D) float; labels int64. Average precision is the mean, over the
    gallery's clips of the query's class, of the precision at their ranks; 0 for a query whose class
    the gallery lacks. recall@k: the share of queries with one of their class among the k nearest.
    """
    precisions, ks = torch.zeros(0, dtype=torch.float64), [k for k in ranks if k <= len(gallery)]
    found, done = dict.fromkeys(ks, 0), 0
    place = torch.arange(1, len(gallery) + 1, dtype=torch.float64)
    for rows, _ in rank_neighbours(gallery, queries, len(gallery)):
        same = gallery_labels[rows] == query_labels[done : done + len(rows), None]  # (s, N)
        done += len(rows)
        precision = same.cumsum(1) / place * same
        average = precision.sum(1) / same.sum(1).clamp_min(1)
        precisions = torch.cat([precisions, average])
        for k in ks:
            found[k] += int(same[:, :k].any(1).sum())
    return float(precisions.mean()), {k: hits / len(queries) for k, hits in found.items()}
