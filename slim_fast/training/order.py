"""Which clips a step trains on, as a pure function of the step."""

import torch
from torch import Tensor

from slim_fast.views.random_stream import RandomStream

_ORDER = -3


class ClipOrder:
    """Endless passes over the clips, each in its own random order; a batch may span two passes."""

    def __init__(self, clips: int, batch: int, seed: int) -> None:
        self.clips, self.batch, self.seed = clips, batch, seed
        self._cached: tuple[int, Tensor] | None = None

    def __call__(self, step: int) -> Tensor:
        """int64 (batch,) clip numbers of `step`."""
        position = torch.arange(step * self.batch, (step + 1) * self.batch)
        passes = torch.div(position, self.clips, rounding_mode="floor")
        parts = [self._order(int(p))[position[passes == p] % self.clips] for p in passes.unique()]
        return torch.cat(parts)

    def _order(self, number: int) -> Tensor:
        if self._cached is None or self._cached[0] != number:
            stream = RandomStream.of(self.seed, number, _ORDER)
            self._cached = (number, stream.bits(self.clips).argsort())
        return self._cached[1]
