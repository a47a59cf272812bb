"""The figures that say what an encoder has learned, each beside a random encoder's and raw coordinates'."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError
from slim_fast.evaluation.features import coordinates, encode
from slim_fast.evaluation.knn import knn_accuracy
from slim_fast.evaluation.linear import linear_accuracy
from slim_fast.model.encoder import Encoder

NEIGHBOURS = (1, 10, 20, 100, 200)
Progress = Callable[[Sequence[int]], Iterable[int]]


def labelled_split(
    cache: ClipCache, split: str | None = None, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Labelled (train, test) clips of a split; more than `limit` on a side are thinned out evenly.

    Raises: UserError when the cache has no such split, or when a side holds no labelled clip.
    """
    sides = []
    for side, clips in zip(("training", "test"), cache.split(split), strict=True):
        labelled = clips[cache.label[clips] >= 0]
        if not len(labelled):
            raise UserError(
                f"{cache.path} has no labelled {side} clips in split {split or 'the first'}; nothing to evaluate on."
            )
        if limit is not None and len(labelled) > limit:
            labelled = labelled[np.linspace(0, len(labelled) - 1, limit).round().astype(int)]
        sides.append(labelled)
    return sides[0], sides[1]


def random_encoder(like: Encoder, seed: int) -> Encoder:
    """An untrained encoder of the same sizes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(like.config, like.joints, like.channels).to(like.pos_embed.device)


def held_out_rows(cache: ClipCache, train: np.ndarray) -> Tensor:
    """(N,) bool: a fifth of the training clips to choose settings on, whole subjects when at least two are known."""
    subjects = np.unique(cache.subject[train])
    if len(subjects) > 1 and subjects[0] >= 0:
        chosen = subjects[:: max(2, round(len(subjects) / max(1, round(len(subjects) / 5))))]
        return torch.from_numpy(np.isin(cache.subject[train], chosen))
    return torch.arange(len(train)) % 5 == 0


def online_knn(cache: ClipCache, encoder: Encoder, train: np.ndarray, test: np.ndarray) -> float:
    """1-NN accuracy of frozen features."""
    labels = torch.from_numpy(np.asarray(cache.label, dtype=np.int64))
    features = [encode(encoder, cache, clips).retrieval for clips in (train, test)]
    return knn_accuracy(features[0], labels[train], features[1], labels[test])[1]


def probe(
    cache: ClipCache,
    encoder: Encoder,
    protocols: tuple[str, ...] = ("knn", "linear"),
    split: str | None = None,
    seed: int = 0,
    progress: Progress = lambda steps: steps,
    limit: int | None = None,
) -> dict[str, Any]:
    """k-NN and linear accuracy of `encoder`, of a random encoder and of raw coordinates.

    At most `limit` training and test clips are used, evenly thinned out (None: all).

    Returns: {"knn": {source: {k: accuracy}}, "linear": {source: accuracy}, "linear_decay": {source: weight decay}} with
    sources "learned", "random_encoder" and "coordinates", for the protocols asked for.
    Raises: UserError when the encoder does not fit the cache or nothing is labelled.
    """
    check_fit(cache, encoder)
    train, test = labelled_split(cache, split, limit)
    train_labels, test_labels = (torch.from_numpy(np.asarray(cache.label[c], dtype=np.int64)) for c in (train, test))
    held_out = held_out_rows(cache, train)
    result: dict[str, Any] = {protocol: {} for protocol in protocols}
    for source in ("learned", "random_encoder", "coordinates"):
        if source == "coordinates":
            knn_features = linear_features = (coordinates(cache, train), coordinates(cache, test))
        else:
            subject = encoder if source == "learned" else random_encoder(encoder, seed)
            fitted, scored = (encode(subject, cache, clips, progress=progress) for clips in (train, test))
            knn_features = (fitted.retrieval, scored.retrieval)
            linear_features = (fitted.pooled, scored.pooled)
        if "knn" in protocols:
            result["knn"][source] = knn_accuracy(
                knn_features[0], train_labels, knn_features[1], test_labels, NEIGHBOURS
            )
        if "linear" in protocols:
            accuracy, decay = linear_accuracy(
                linear_features[0], train_labels, linear_features[1], test_labels, held_out
            )
            result["linear"][source] = accuracy
            result.setdefault("linear_decay", {})[source] = decay
    return result


def check_fit(cache: ClipCache, encoder: Encoder) -> None:
    """Raises UserError when the encoder was made for other joints or channels than the cache holds."""
    held = (cache.topology.num_joints, len(cache.channels))
    if (encoder.joints, encoder.channels) != held:
        raise UserError(
            f"The encoder takes {encoder.joints} joints with {encoder.channels} channels, but {cache.path} holds "
            f"{held[0]} joints with {held[1]} ({cache.topology.name}, {cache.channels}); train or choose one that fits."
        )
