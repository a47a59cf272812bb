"""An encoder with a linear head on its CLS token and mean patch, summed over people."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from slim_fast.data.cache import ClipCache
from slim_fast.evaluation.features import PEOPLE, encode_clips, load_evaluation_clips
from slim_fast.model.encoder import Encoder
from slim_fast.model.frozen import copied, freeze

_HEAD_STD = 0.01  # of a new head's weights


class TunedClassifier(nn.Module):
    """A copy of `encoder` with a new head of `classes` logits, drawn by torch's generator."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = copied(encoder).requires_grad_(True)
        self.head = nn.Linear(2 * encoder.config.width, classes)
        nn.init.trunc_normal_(self.head.weight, std=_HEAD_STD)
        nn.init.zeros_(self.head.bias)
        self.head.to(encoder.pos_embed.device)

    def forward(self, clips: Tensor) -> Tensor:
        """Clips (N, M, T, V, C), absent people zeros -> logits (N, classes)."""
        return self.head(encode_clips(self.encoder, clips).pooled)

    @torch.no_grad()
    def predict(
        self,
        cache: ClipCache,
        clips: np.ndarray,
        people: int = PEOPLE,
        batch: int = 128,
        progress: Callable[[Sequence[int]], Iterable[int]] = lambda steps: steps,
    ) -> Tensor:
        """Classes int64 (N,) of the cache's evaluation clips (N,), on the CPU."""
        frozen, found = freeze(self.encoder), []
        for begin in progress(range(0, len(clips), batch)):
            some = clips[begin : begin + batch]
            views = load_evaluation_clips(cache, some, self.encoder.config.window, people)
            found.append(self.head(encode_clips(frozen, views).pooled).argmax(1).cpu())
        return torch.cat(found)
