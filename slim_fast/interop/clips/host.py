"""Folding people for another runtime: what `people` does, by NumPy in the calling thread.

Threads that PyTorch wakes for a copy go on spinning for a while, on the cores that the other
runtime's threads then need; and NumPy's calls are cheaper in caches that those have emptied.
"""

import numpy as np
import torch
from torch import Tensor

from slim_fast.data.clips import count_coordinates
from slim_fast.interop.clips.people import PeopleBatch, is_present


class HostBatch(PeopleBatch):
    """People of clips on the CPU."""

    def scatter(self, x: Tensor) -> Tensor:
        """See `PeopleBatch.scatter`."""
        is_float = x.dtype == self.dtype == torch.float32
        if self.rows is None or not is_float or x.requires_grad:
            return super().scatter(x)
        everyone = np.zeros((self.present.numel(), *x.shape[1:]), np.float32)
        everyone[self.rows.numpy()] = x.numpy()
        return torch.from_numpy(everyone)


def fold_on_host(x: Tensor, people: Tensor | None, skip_empty: bool, channels: str) -> HostBatch:
    """Fold those of clips (B, C, T, V, M) who are present into the batch, in float32; B, M >= 1.

    people: (B, M) bool, who is; None: all, or with skip_empty who `find_present_people` finds.
    """
    batch, _, frames, joints, places = x.shape
    axes = np.ascontiguousarray(x.detach().float().numpy().transpose(0, 4, 1, 2, 3))
    if people is not None:
        present = people.numpy()
    elif skip_empty:
        present = _find_present(axes[:, :, : count_coordinates(channels)])
    else:
        present = np.ones((batch, places), bool)
    clips, is_full = axes.reshape(batch * places, -1, frames, joints), bool(present.all())
    rows = None if is_full else np.flatnonzero(present)
    folded = np.ascontiguousarray((clips if rows is None else clips[rows]).transpose(0, 2, 3, 1))
    return HostBatch(
        torch.from_numpy(folded),
        None,
        torch.from_numpy(present),
        None if rows is None else torch.from_numpy(rows),
        is_full,
        x.dtype,
    )


def _find_present(people: np.ndarray) -> np.ndarray:
    """(B, M) bool of coordinates (B, M, C, T, V), as `find_present_people` has it."""
    highest, lowest = people.max(4), people.min(4)  # (B, M, C, T)
    with np.errstate(invalid="ignore"):
        size = np.maximum(highest, -lowest).max((2, 3))  # (B, M)
        spread = (highest - lowest).max((2, 3)) if people.shape[4] > 1 else size
    finite_size, finite_spread = (np.where(x < np.inf, x, 0) for x in (size, spread))
    present: np.ndarray = is_present(spread, finite_spread.max(1, keepdims=True), finite_size)
    return present
