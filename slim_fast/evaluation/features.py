"""Evaluation clips and the frozen features of an encoder on them (recipe of the paper's downstream protocols)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.model.encoder import Encoder
from slim_fast.model.frozen import freeze
from slim_fast.views.frames import evaluation_positions
from slim_fast.views.store import mapped_positions

WINDOW = 64
PEOPLE = 2


@dataclass(frozen=True)
class Features:
    """Features of N clips, float32 on the CPU: retrieval (N, 2 D M) of all people, pooled (N, 2 D) their sum."""

    retrieval: Tensor
    pooled: Tensor


def evaluation_clips(cache: ClipCache, clips: np.ndarray, window: int = WINDOW) -> Tensor:
    """(N, M, window, V, C) float32 clips, M = min(2, most people of the cache's clips); absent people are zeros.

    `window` frames from the centred 95 % of the clip, the centre joint of the first person's first frame at the
    origin; more people than two: the first two.
    """
    start, length, people = (torch.from_numpy(np.asarray(a)[clips]) for a in (cache.start, cache.length, cache.people))
    dims = len(cache.channels.rstrip("c"))
    slots = min(PEOPLE, int(np.max(cache.people)))
    position = evaluation_positions(length, window)  # (N, window)
    below = position.long()
    share = (position - below)[:, None, :, None, None]
    above = (below + 1).minimum(length[:, None] - 1)
    person = torch.arange(slots).minimum(people[:, None] - 1)  # (N, M)
    first = start[:, None] + person * length[:, None]
    positions = mapped_positions(cache)

    def gather(frame: Tensor) -> Tensor:  # (N, window) -> (N, M, window, V, C)
        rows = first[:, :, None] + frame[:, None]
        return positions.index_select(0, rows.flatten()).view(*rows.shape, *positions.shape[1:])

    lower, upper = gather(below), gather(above)
    here_below, here_above = (x.flatten(-2).any(-1)[..., None, None] for x in (lower, upper))
    views = torch.where(here_above & here_below, torch.lerp(lower, upper, share), lower)
    seen = start.clone()  # the first person's first row, which is the clip's unless that person comes later
    for late in (~positions[start].flatten(1).any(1)).nonzero()[:, 0]:
        seen[late] += positions[start[late] : start[late] + length[late]].flatten(1).any(1).int().argmax()
    origin = positions[seen][:, cache.topology.centre, :dims]
    present = here_below & (torch.arange(slots) < people[:, None])[..., None, None, None]
    views[..., :dims] -= origin[:, None, None, None]
    return views * present


@torch.no_grad()
def encode(
    encoder: Encoder,
    cache: ClipCache,
    clips: np.ndarray,
    batch: int = 128,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
) -> Features:
    """Frozen features of `clips` (N,): CLS and mean patch of the last block, on the encoder's device; empty people
    give zeros.
    """
    encoder = freeze(encoder)
    device = encoder.pos_embed.device
    retrieval, pooled = [], []
    for begin in progress(range(0, len(clips), batch)):
        views = evaluation_clips(cache, clips[begin : begin + batch]).to(device)
        n, m = views.shape[:2]
        flat = views.flatten(0, 1)
        present = flat.flatten(1).any(1)
        tokens = torch.zeros(n * m, 2, encoder.config.width, device=device)
        if present.any():
            patches, cls = encoder.last_blocks(flat[present], None, 1)[0]
            tokens[present] = torch.stack([cls.float(), patches.float().mean(1)], 1)
        tokens = tokens.view(n, m, 2, -1)
        retrieval.append(tokens.transpose(1, 2).flatten(1).cpu())  # CLS of all people, then mean patches
        pooled.append(tokens.sum(1).flatten(1).cpu())
    return Features(torch.cat(retrieval), torch.cat(pooled))


def coordinates(cache: ClipCache, clips: np.ndarray) -> Tensor:
    """(N, M * 64 * V * C) raw coordinates of the evaluation clips, the baseline that needs no encoder."""
    return evaluation_clips(cache, clips).flatten(1)
