"""Which clips a step trains on, as a pure function of the step."""

import torch
from torch import Tensor

from slim_fast.views.stream import Stream

_ORDER = -3


class ClipOrder:
    """Endless passes over `clips` clips, each in its own random order; a batch may span two passes."""

    def __init__(self, clips: int, batch: int, seed: int) -> None:
        self.clips, self.batch, self.seed = clips, batch, seed
        self._kept: tuple[int, Tensor] | None = None

    def __call__(self, step: int) -> Tensor:
        """int64 (batch,) clip numbers of `step`."""
        place = torch.arange(step * self.batch, (step + 1) * self.batch)
        passes = torch.div(place, self.clips, rounding_mode="floor")
        parts = [self._order(int(p))[place[passes == p] % self.clips] for p in passes.unique()]
        return torch.cat(parts)

    def _order(self, number: int) -> Tensor:
        if self._kept is None or self._kept[0] != number:
            stream = Stream.of(self.seed, number, _ORDER)
            self._kept = (number, stream.bits(self.clips).argsort())
        return self._kept[1]
