"""The order of clips while a classifier is trained."""

from collections.abc import Iterator

import torch
from torch import Tensor


def shuffled_batches(clips: int, batch: int, seed: int) -> Iterator[Tensor]:
    """int64 (batch,) clip numbers without end: a new order of all clips after every clip."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.zeros(0, dtype=torch.int64)
    while True:
        while len(left) < batch:
            left = torch.cat([left, torch.randperm(clips, generator=generator)])
        yield left[:batch]
        left = left[batch:]
