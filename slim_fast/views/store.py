"""The frames of a cache, ready to be gathered: one track a person, holding just the frames in which that person is
there.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError

SCAN_ROWS = 1 << 16


class FrameStore:
    """Frames by track. Tables live on `device`; so do the positions while they fit `resident_bytes`, else they stay
    mapped on disk.

    Attributes:
        clips: the clip indices of the cache that this store serves, int64 (N,); clip numbers below count within them.
        topology, channels: of the cache.
    """

    def __init__(
        self,
        cache: ClipCache,
        clips: Sequence[int] | np.ndarray | None = None,
        device: torch.device | str = "cpu",
        resident_bytes: int = 8 << 30,
    ) -> None:
        self.cache, self.topology, self.channels = cache, cache.topology, cache.channels
        self.clips = np.arange(len(cache)) if clips is None else np.asarray(clips, dtype=np.int64)
        if not len(self.clips):
            raise UserError(f"No clips to read in {cache.path}: choose another split or convert the data again.")
        self.device = torch.device(device)
        start, length, people = (np.asarray(a)[self.clips] for a in (cache.start, cache.length, cache.people))
        track_clip = np.repeat(np.arange(len(self.clips)), people)
        person = np.arange(len(track_clip)) - np.repeat(np.cumsum(people) - people, people)
        begin = start[track_clip] + person * length[track_clip]
        present = _present_rows(cache.positions)
        rows = np.concatenate([np.arange(b, b + n) for b, n in zip(begin, length[track_clip], strict=True)])
        here = present[rows]
        frames = np.add.reduceat(here, np.cumsum(length[track_clip]) - length[track_clip], dtype=np.int64)
        keep = frames > 0
        self._rows = self._table(rows[here])
        self._track_first = self._table((np.cumsum(frames) - frames)[keep])
        self._track_frames = self._table(frames[keep])
        tracks = np.bincount(track_clip[keep], minlength=len(self.clips))
        if not tracks.all():
            bad = cache.names[self.clips[int(np.argmin(tracks))]]
            raise UserError(f"Clip {bad} of {cache.path} holds nobody; convert the data again.")
        self._clip_first = self._table(np.cumsum(tracks) - tracks)
        self._clip_tracks = self._table(tracks)
        positions = mapped_positions(cache)
        resident = positions.numel() * positions.element_size() <= resident_bytes
        self._positions = positions.to(self.device) if resident and self.device.type != "cpu" else positions

    def __len__(self) -> int:
        return len(self.clips)

    def _table(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64)).to(self.device)

    def tracks(self, clip: Tensor, u: Tensor) -> Tensor:
        """One of each clip's people, chosen by u in [0, 1): clip int64 (B,) -> track int64 (B,)."""
        people = self._clip_tracks[clip]
        return self._clip_first[clip] + (u * people).long().minimum(people - 1)

    def frames(self, track: Tensor) -> Tensor:
        """Number of frames in which the person is there, int64 of track's shape."""
        return self._track_frames[track]

    def gather(self, track: Tensor, frame: Tensor) -> Tensor:
        """Positions (..., V, C) float32 of `frame` (...,) int64 of the broadcast `track`."""
        rows = self._rows[self._track_first[track] + frame]
        flat = self._positions.index_select(0, rows.flatten().to(self._positions.device))
        return flat.to(self.device, non_blocking=True).view(*rows.shape, *flat.shape[1:])


def mapped_positions(cache: ClipCache) -> Tensor:
    """The cache's positions (rows, V, C) as a tensor on the mapped file; it must not be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(cache.positions))


def _present_rows(positions: np.ndarray) -> np.ndarray:
    """(rows,) bool: some coordinate is not zero."""
    present = np.empty(len(positions), dtype=bool)
    for begin in range(0, len(positions), SCAN_ROWS):
        block = positions[begin : begin + SCAN_ROWS]
        present[begin : begin + SCAN_ROWS] = block.reshape(len(block), -1).any(1)
    return present
