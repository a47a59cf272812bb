"""Evaluation clips and an encoder's frozen features of them, as in the paper's protocols."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.evaluation.clips import gather_clips
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.model.frozen import freeze
from slim_fast.model.streams import Stream, to_stream
from slim_fast.views.frames import evaluation_positions

PEOPLE = 2  # of a clip, as in the released protocol


@dataclass(frozen=True)
class Features:
    """Features of N clips, float32.

    Attributes:
        retrieval: (N, 2 D M), CLS tokens of all people, then their mean patches.
        cls: (N, L, D), CLS tokens of the last L blocks, oldest first, summed over people.
        patches: (N, D), mean patches of the last block, summed over people.
    """

    retrieval: Tensor
    cls: Tensor
    patches: Tensor

    @property
    def pooled(self) -> Tensor:
        """(N, 2 D), CLS token and mean patch of the last block, summed over people."""
        return torch.cat([self.cls[:, -1], self.patches], 1)

    def __getitem__(self, rows: Tensor) -> "Features":
        """Those of some clips, by int64 numbers or bool (N,)."""
        return Features(self.retrieval[rows], self.cls[rows], self.patches[rows])


def load_evaluation_clips(
    cache: ClipCache, clips: np.ndarray, window: int = EncoderConfig.window, people: int = PEOPLE
) -> Tensor:
    """(N, M, window, V, C) float32 clips, M = min(people, most people of a clip in the cache).

    `evaluation_positions` chooses the frames, `gather_clips` reads and centres them; the released
    protocol does not centre.
    """
    length = torch.from_numpy(np.asarray(cache.length)[clips])
    return gather_clips(cache, clips, evaluation_positions(length, window), people)


@torch.no_grad()
def extract_features(
    encoder: Encoder,
    cache: ClipCache,
    clips: np.ndarray,
    batch: int = 128,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
    people: int = PEOPLE,
    dtype: torch.dtype | None = None,
    blocks: int = 1,
) -> Features:
    """Frozen features of `clips` (N,), on the CPU; 0 for absent people.

    Args:
        encoder: on any device, where it runs.
        batch: clips at a time.
        progress: wraps the batches, for a progress bar.
        people: at most so many of a clip, the first in the cache's order.
        dtype: of the blocks' matrix products (None: the encoder's).
        blocks: how many of the last blocks' CLS tokens are kept.
    """
    frozen = freeze(encoder, dtype)
    parts = []
    for begin in progress(range(0, len(clips), batch)):
        some = clips[begin : begin + batch]
        views = load_evaluation_clips(cache, some, encoder.config.window, people)
        parts.append(encode_clips(frozen, views, blocks))
    columns = zip(*((part.retrieval, part.cls, part.patches) for part in parts), strict=True)
    return Features(*(torch.cat([x.cpu() for x in column]) for column in columns))


def encode_clips(encoder: Encoder, clips: Tensor, blocks: int = 1) -> Features:
    """Features of clips (N, M, T, V, C), on the encoder's device; those of people present only."""
    n = len(clips)
    flat = rearrange(clips, "n m t v c -> (n m) t v c").to(encoder.pos_embed.device)
    present = flat.flatten(1).any(1)
    # CLS of the last blocks, then the last one's mean patch
    tokens = flat.new_zeros(len(flat), blocks + 1, encoder.config.width)
    if present.any():
        layers = encoder.encode_last_blocks(flat[present], None, blocks)
        each = [cls.float() for _, cls in layers] + [layers[-1][0].float().mean(1)]
        tokens[present] = torch.stack(each, 1)
    summed = reduce(tokens, "(n m) l d -> n l d", "sum", n=n)
    retrieval = rearrange(tokens[:, -2:], "(n m) two d -> n (two m d)", n=n)
    return Features(retrieval, summed[:, :-1], summed[:, -1])


def load_coordinates(
    cache: ClipCache, clips: np.ndarray, people: int = PEOPLE, stream: Stream = "joint"
) -> Tensor:
    """(N, M * 64 * V * C) coordinates of the evaluation clips: the baseline without an encoder.

    stream: bones and motion are differences of coordinates (`to_stream`).
    """
    views = load_evaluation_clips(cache, clips, people=people)
    return to_stream(views, stream, cache.topology, len(cache.channels.rstrip("c"))).flatten(1)
