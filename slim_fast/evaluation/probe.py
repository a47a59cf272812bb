"""Accuracies of an encoder's features, beside those of a random encoder and of coordinates."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError
from slim_fast.evaluation.features import PEOPLE, extract_features, load_coordinates
from slim_fast.evaluation.knn import compute_knn_accuracy
from slim_fast.evaluation.linear import compute_linear_accuracy
from slim_fast.model.encoder import Encoder
from slim_fast.skeletons import Topology
from slim_fast.skeletons.compatibility import find_mismatch

NEIGHBOURS = (1, 10, 20, 100, 200)
Progress = Callable[[Sequence[int]], Iterable[int]]


def select_labelled_clips(
    cache: ClipCache, split: str | None = None, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The labelled (train, test) clips of a split, of each at most `limit`, evenly spaced.

    Warns: of classes with test clips but no training clips.
    Raises: UserError when there is no such split, or no labelled clip to train or to test on.
    """
    subsets = []
    whole = [clips[cache.label[clips] >= 0] for clips in cache.split(split)]
    unknown = sorted(set(cache.label[whole[1]].tolist()) - set(cache.label[whole[0]].tolist()))
    if unknown and len(whole[0]):
        names = ", ".join(cache.classes[label] for label in unknown[:3])
        names += ", ..." * (len(unknown) > 3)
        warnings.warn(
            f"{cache.path} tests {len(unknown)} of {len(cache.classes)} classes ({names}) that no "
            "training clip is of: their clips count as wrong",
            stacklevel=1,
        )
    for subset, labelled in zip(("training", "test"), whole, strict=True):
        if not len(labelled):
            raise UserError(
                f"{cache.path} has no labelled {subset} clips in split {split or 'the first'}; "
                "nothing to evaluate on."
            )
        if limit is not None and len(labelled) > limit:
            labelled = labelled[np.linspace(0, len(labelled) - 1, limit).round().astype(int)]
        subsets.append(labelled)
    return subsets[0], subsets[1]


def make_random_encoder(like: Encoder, seed: int) -> Encoder:
    """An untrained encoder of the same sizes as `like`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Encoder(like.config, like.joints, like.channels).to(like.pos_embed.device)
    made.topology, made.channel_names = like.topology, like.channel_names
    return made


def select_held_out(cache: ClipCache, train: np.ndarray) -> Tensor:
    """(N,) bool: about a fifth of the training clips, for validation.

    Whole subjects are held out when at least two are known, because clips of one subject are alike.
    """
    subjects = np.unique(cache.subject[train])
    if len(subjects) > 1 and subjects[0] >= 0:
        held_out = subjects[:: max(2, round(len(subjects) / max(1, round(len(subjects) / 5))))]
        return torch.from_numpy(np.isin(cache.subject[train], held_out))
    return torch.arange(len(train)) % 5 == 0


def compute_online_knn(
    cache: ClipCache,
    encoder: Encoder,
    train: np.ndarray,
    test: np.ndarray,
    dtype: torch.dtype | None = None,
) -> float:
    """1-NN accuracy of frozen features, whose matrix products are in `dtype` (None: the
    encoder's).
    """
    labels = torch.from_numpy(np.asarray(cache.label, dtype=np.int64))
    features = [extract_features(encoder, cache, c, dtype=dtype).retrieval for c in (train, test)]
    return compute_knn_accuracy(features[0], labels[train], features[1], labels[test])[1]


def probe(
    cache: ClipCache,
    encoder: Encoder,
    protocols: tuple[str, ...] = ("knn", "linear"),
    split: str | None = None,
    seed: int = 0,
    progress: Progress = lambda steps: steps,
    limit: int | None = None,
    people: int = PEOPLE,
    dtype: torch.dtype | None = None,
) -> dict[str, Any]:
    """k-NN and linear accuracy of `encoder`, of a random encoder and of raw coordinates.

    At most `limit` training and test clips are used, evenly spaced (None: all), and at most
    `people` of a clip. The blocks' matrix products are in `dtype` (None: the encoder's).

    Returns: {"knn": {source: {k: accuracy}}, "linear": {source: accuracy}, "linear_decay": {source:
    weight decay}} with sources "learned", "random_encoder" and "coordinates", for the given
    protocols.
    Raises: UserError when the encoder does not fit the cache or nothing is labelled.
    """
    if people < 1:
        raise UserError(f"people={people}: at least one person of a clip is needed.")
    check_encoder_fits(cache, encoder)
    train, test = select_labelled_clips(cache, split, limit)
    train_labels, test_labels = (
        torch.from_numpy(np.asarray(cache.label[c], dtype=np.int64)) for c in (train, test)
    )
    held_out = select_held_out(cache, train)
    result: dict[str, Any] = {protocol: {} for protocol in protocols}
    for source in ("learned", "random_encoder", "coordinates"):
        if source == "coordinates":
            knn_features = linear_features = tuple(
                load_coordinates(cache, clips, people) for clips in (train, test)
            )
        else:
            subject = encoder if source == "learned" else make_random_encoder(encoder, seed)
            fitted, scored = (
                extract_features(
                    subject, cache, clips, progress=progress, people=people, dtype=dtype
                )
                for clips in (train, test)
            )
            knn_features = (fitted.retrieval, scored.retrieval)
            linear_features = (fitted.pooled, scored.pooled)
        if "knn" in protocols:
            result["knn"][source] = compute_knn_accuracy(
                knn_features[0], train_labels, knn_features[1], test_labels, NEIGHBOURS
            )
        if "linear" in protocols:
            accuracy, decay = compute_linear_accuracy(
                linear_features[0], train_labels, linear_features[1], test_labels, held_out
            )
            result["linear"][source] = accuracy
            result.setdefault("linear_decay", {})[source] = decay
    return result


def check_encoder_fits(cache: ClipCache, encoder: Encoder) -> None:
    """Raises: UserError when the encoder is for other joints, axes or channels than the cache's."""
    mismatch = find_mismatch(
        encoder.topology, encoder.channel_names, cache.topology, cache.channels
    )
    if mismatch is None:
        return
    if isinstance(encoder.topology, Topology):
        made_for = (
            f"{encoder.topology.name} ({encoder.joints} joints) with the channels "
            f"{encoder.channel_names}"
        )
        remedy = (
            ", or carry its weights over by the joints' names (--match-joints, in Python "
            "SLiMEncoder.to_skeleton)"
        )
    else:
        made_for, remedy = f"{encoder.joints} joints with {encoder.channels} channels", ""
    raise UserError(
        f"The encoder takes {made_for}, but {cache.path} holds {cache.topology.name} "
        f"({cache.topology.num_joints} joints) with {cache.channels}: {mismatch}. Train or choose "
        f"an encoder that fits{remedy}."
    )
