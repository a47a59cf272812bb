"""The clips of a report, and which of the others their features are nearest to."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.evaluation.feature_files import FeatureFiles
from slim_fast.evaluation.knn import rank_neighbours
from slim_fast.evaluation.protocols import Task
from slim_fast.model.encoder import Encoder

NEIGHBOURS = 5
_ONE_STEP = 1e-7  # of the cosines of `rank_neighbours`


@dataclass(frozen=True)
class Neighbours:
    """Query clips, and gallery clips among which their neighbours are looked for.

    Attributes:
        queries, gallery: (Q,), (G,) clip numbers of the cache.
        features: (Q, D) float32 of the queries, as k-NN reads them.
        rows: int64 (Q, k) the nearest gallery rows, nearest first, k at most 5.
        distances: float64 (Q, k), 1 - cosine.
        own_distance: float64 (Q,) to the nearest gallery clip of the query's class; NaN where there
            is none, or no label.
        right: bool (Q,), whether the nearest clip is of the query's class; None without labels.
    """

    queries: np.ndarray
    gallery: np.ndarray
    features: Tensor
    rows: np.ndarray
    distances: np.ndarray
    own_distance: np.ndarray
    right: np.ndarray | None

    def nearest(self, query: int) -> int:
        """The clip number of a query's nearest neighbour."""
        return int(self.gallery[self.rows[query, 0]])


def find_neighbours(
    encoder: Encoder, cache: ClipCache, files: FeatureFiles, task: Task | None, split: str | None
) -> Neighbours:
    """Test clips against training clips; without a split, every second clip against the others.

    task: of a cache that is labelled; None: labels do not count.
    """
    if task is not None:
        gallery, queries = task.train, task.test
        train, test = task.features("learned")
    else:
        everything = np.arange(len(cache))
        gallery, queries = (
            cache.split(split) if cache.splits else (everything[1::2], everything[::2])
        )
        if not len(gallery) or not len(queries):
            gallery, queries = everything[1::2], everything[::2]
        train, test = (files.load(encoder, clips, 1, "learned") for clips in (gallery, queries))
    k = min(NEIGHBOURS, len(gallery))
    found = list(rank_neighbours(train.retrieval, test.retrieval, k))
    rows = torch.cat([rows for rows, _ in found]).numpy()
    distances = 1 - torch.cat([steps for _, steps in found]).double().numpy() * _ONE_STEP
    own, right = np.full(len(queries), np.nan), None
    if task is not None:
        labels = cache.label[gallery], cache.label[queries]
        right = labels[0][rows[:, 0]] == labels[1]
        own = _own_distances(train.retrieval, labels[0], test.retrieval, labels[1])
    return Neighbours(queries, gallery, test.retrieval, rows, distances, own, right)


def _own_distances(
    train: Tensor, train_labels: np.ndarray, test: Tensor, test_labels: np.ndarray
) -> np.ndarray:
    """(Q,) 1 - cosine to the nearest of the own class, NaN without one."""
    train, test = F.normalize(train.double(), dim=-1), F.normalize(test.double(), dim=-1)
    out = np.full(len(test), np.nan)
    for label in np.unique(test_labels):
        of_class = train[torch.from_numpy(train_labels == label)]
        rows = np.flatnonzero(test_labels == label)
        if len(of_class):
            out[rows] = 1 - (test[rows] @ of_class.t()).amax(1).numpy()
    return out
