"""Evaluation clips and an encoder's frozen features of them, as in the paper's protocols."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.model.encoder import Encoder
from slim_fast.model.frozen import freeze
from slim_fast.views.frames import evaluation_positions
from slim_fast.views.store import mapped_positions
from slim_fast.views.undetected import detected_joints, find_origin, interpolate

WINDOW = 64
PEOPLE = 2  # of a clip, as in the released protocol


@dataclass(frozen=True)
class Features:
    """Features of N clips, float32 on the CPU.

    Attributes:
        retrieval: (N, 2 D M), CLS tokens of all people, then their mean patches.
        pooled: (N, 2 D), CLS tokens and mean patches summed over people.
    """

    retrieval: Tensor
    pooled: Tensor


def load_evaluation_clips(
    cache: ClipCache, clips: np.ndarray, window: int = WINDOW, people: int = PEOPLE
) -> Tensor:
    """(N, M, window, V, C) float32 clips, M = min(people, most people of a clip in the cache).

    `evaluation_positions` chooses the frames; no frame is interpolated from undetected joints,
    which are zeros, as are absent people. Of more than M people the first are taken, in the cache's
    order. The first person's centre joint in their first frame (`find_origin`) is the origin; the
    released protocol does not centre.
    """
    start, length, num_people = (
        torch.from_numpy(np.asarray(a)[clips]) for a in (cache.start, cache.length, cache.people)
    )
    dims = len(cache.channels.rstrip("c"))
    most = min(people, int(np.max(cache.people)))
    position = evaluation_positions(length, window)  # (N, window)
    below = position.long()
    weight = (position - below)[:, None, :, None, None]
    above = (below + 1).minimum(length[:, None] - 1)
    # absent people are copies of the last one, and zeroed at the end
    person = torch.arange(most).minimum(num_people[:, None] - 1)  # (N, M)
    first = start[:, None] + person * length[:, None]
    positions = mapped_positions(cache)

    def gather(frame: Tensor) -> Tensor:  # (N, window) -> (N, M, window, V, C)
        rows = first[:, :, None] + frame[:, None]
        return positions.index_select(0, rows.flatten()).view(*rows.shape, *positions.shape[1:])

    views = interpolate(gather(below), gather(above), weight, dims)
    present = (torch.arange(most) < num_people[:, None])[..., None, None]  # (N, M, 1, 1)
    detected = detected_joints(views, dims) & present
    firsts = (positions[s : s + n] for s, n in zip(start, length, strict=True))
    centre = torch.stack([find_origin(own, cache.topology.centre, dims) for own in firsts])
    return torch.where(detected[..., None], views - centre[:, None, None, None], 0)


@torch.no_grad()
def extract_features(
    encoder: Encoder,
    cache: ClipCache,
    clips: np.ndarray,
    batch: int = 128,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
    people: int = PEOPLE,
    dtype: torch.dtype | None = None,
) -> Features:
    """Frozen features of `clips` (N,): CLS and mean patch of the last block; 0 for absent people.

    Args:
        encoder: on any device, where it runs.
        batch: clips at a time.
        progress: wraps the batches, for a progress bar.
        people: at most so many of a clip, the first in the cache's order.
        dtype: of the blocks' matrix products (None: the encoder's).
    """
    encoder = freeze(encoder, dtype)
    device = encoder.pos_embed.device
    retrieval, pooled = [], []
    for begin in progress(range(0, len(clips), batch)):
        views = load_evaluation_clips(cache, clips[begin : begin + batch], people=people).to(device)
        n, m = views.shape[:2]
        flat = rearrange(views, "n m t v c -> (n m) t v c")
        present = flat.flatten(1).any(1)
        tokens = torch.zeros(n * m, 2, encoder.config.width, device=device)
        if present.any():
            patches, cls = encoder.encode_last_blocks(flat[present], None, 1)[0]
            tokens[present] = torch.stack([cls.float(), patches.float().mean(1)], 1)
        retrieval.append(rearrange(tokens, "(n m) two d -> n (two m d)", n=n).cpu())
        pooled.append(reduce(tokens, "(n m) two d -> n (two d)", "sum", n=n).cpu())
    return Features(torch.cat(retrieval), torch.cat(pooled))


def load_coordinates(cache: ClipCache, clips: np.ndarray, people: int = PEOPLE) -> Tensor:
    """(N, M * 64 * V * C) coordinates of the evaluation clips: the baseline without an encoder."""
    return load_evaluation_clips(cache, clips, people=people).flatten(1)
