"""What is shown of single clips: neighbours, attention on the skeleton, views with their masks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange

from slim_fast.data.cache import ClipCache
from slim_fast.evaluation.attention import attend_from_cls
from slim_fast.evaluation.features import load_evaluation_clips
from slim_fast.model.encoder import Encoder
from slim_fast.reporting.films import Films
from slim_fast.reporting.neighbours import Neighbours
from slim_fast.training.summary import choose_clip, describe_view
from slim_fast.views.pipeline import ViewSampler, ViewsConfig
from slim_fast.views.store import FrameStore

EACH_KIND = 4  # queries of the gallery that are right, and that are wrong
ATTENTION_FILMS = 6
_BATCH = 32
_VIEW_CLIPS = 16  # a batch of views, from which one clip is shown


@dataclass(frozen=True)
class Shot:
    """A film with what is written below it; `mark`: "right", "wrong" or "" ."""

    film: int
    title: str
    more: str = ""
    mark: str = ""


def choose_evenly(candidates: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the candidates (n,), evenly spaced."""
    if len(candidates) <= most:
        return candidates
    return candidates[np.linspace(0, len(candidates) - 1, most).round().astype(int)]


def make_gallery(
    found: Neighbours, film: Callable[[int], int], name: Callable[[int], str], labels: np.ndarray
) -> list[list[Shot]]:
    """Rows of a query and its neighbours, some whose nearest is of their class, some not.

    film: a clip's film; name: a clip's class; labels: (N,) of the cache.
    """
    if found.right is None:
        chosen = choose_evenly(np.arange(len(found.queries)), 2 * EACH_KIND)
    else:
        by_class = np.argsort(labels[found.queries], kind="stable")
        kinds = (by_class[found.right[by_class]], by_class[~found.right[by_class]])
        chosen = np.concatenate([choose_evenly(kind, EACH_KIND) for kind in kinds])
    rows = []
    for query in chosen:
        clip = int(found.queries[query])
        row = [Shot(film(clip), name(clip), "query")]
        for other, distance in zip(
            found.gallery[found.rows[query]], found.distances[query], strict=True
        ):
            same = "right" if labels[other] == labels[clip] else "wrong"
            mark = same if found.right is not None else ""
            row.append(Shot(film(int(other)), name(int(other)), f"{distance:.3f}", mark))
        rows.append(row)
    return rows


def measure_attention(
    encoder: Encoder, cache: ClipCache, clips: np.ndarray, people: int
) -> tuple[np.ndarray, np.ndarray]:
    """CLS's attention in evaluation clips (n,): each one's first person's, and the mean over all
    people present.

    Returns: (n, T / 8, V) and (T / 8, V).
    """
    first, total, persons = [], torch.zeros(()), 0
    for begin in range(0, len(clips), _BATCH):
        some, window = clips[begin : begin + _BATCH], encoder.config.window
        views = load_evaluation_clips(cache, some, window, people)
        flat = rearrange(views, "n m t v c -> (n m) t v c")
        shares = attend_from_cls(encoder, flat.to(encoder.pos_embed.device)).cpu()
        present = flat.flatten(1).any(1)
        total, persons = total + shares[present].sum(0), persons + int(present.sum())
        first.append(shares[:: views.shape[1]])
    return torch.cat(first).numpy(), (total / max(persons, 1)).numpy()


def film_attention(
    cache: ClipCache, clip: int, shares: np.ndarray, films: Films, window: int, people: int
) -> int:
    """The film of an evaluation clip of `window` frames, whose joints are marked by attention
    (T / 8, V), 255 the most.

    The other people's joints are not marked.
    """
    (view,) = load_evaluation_clips(cache, np.array([clip]), window, people).numpy()
    marks = np.zeros((len(shares), len(view), shares.shape[1]))
    marks[:, 0] = 255 * shares / max(float(shares.max()), 1e-12)
    return films.add(rearrange(view, "m t v c -> t m v c"), marks.round())


def film_views(
    cache: ClipCache, clips: np.ndarray, config: ViewsConfig, seed: int, films: Films
) -> tuple[str, list[Shot]]:
    """The name of one of the training clips (n,), and its views of a training step as films.

    Masked joints are marked with 1.
    """
    store = FrameStore(cache, choose_evenly(clips, _VIEW_CLIPS), people=config.people)
    batch = ViewSampler(store, config, seed)(torch.arange(len(store)), 0)
    groups = [(group.clips.numpy(), group.mask.numpy()) for group in batch.groups]
    chosen = choose_clip(*groups[0], store.channels)
    shots = []
    for kind, (views, masks) in zip(["global", *["local"] * len(groups)], groups, strict=False):
        for view, mask in zip(views[chosen], masks[chosen], strict=True):
            titles = describe_view(kind, view, mask, store.topology, store.channels)
            shots.append(Shot(films.add(view[:, None], mask[:, None]), *titles))
    return str(cache.names[store.clips[int(batch.clip[chosen])]]), shots
