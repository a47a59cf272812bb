"""The frames of a cache by track, those of one person who is present, and its origin."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError
from slim_fast.views.undetected import find_origin

SCAN_ROWS = 1 << 16


class FrameStore:
    """Frames by track, on `device` while they fit `resident_bytes`, else mapped on disk.

    Args:
        clips: the clip indices of the cache that this store serves; clip numbers below count within
            them. None: all.
        people: at most as many people of each clip, the first as ranked by the cache.

    Attributes:
        clips: int64 (N,); topology, channels: of the cache.
        is_complete: whether every joint is detected in every frame.
    """

    def __init__(
        self,
        cache: ClipCache,
        clips: Sequence[int] | np.ndarray | None = None,
        device: torch.device | str = "cpu",
        resident_bytes: int = 8 << 30,
        people: int = 2,
    ) -> None:
        self.cache, self.topology, self.channels = cache, cache.topology, cache.channels
        self.clips = np.arange(len(cache)) if clips is None else np.asarray(clips, dtype=np.int64)
        if not len(self.clips):
            raise UserError(
                f"No clips to read in {cache.path}: choose another split or convert the data again."
            )
        self.device = torch.device(device)
        start, length, crowd = (
            np.asarray(a)[self.clips] for a in (cache.start, cache.length, cache.people)
        )
        crowd = np.minimum(crowd, people)
        track_clip = np.repeat(np.arange(len(self.clips)), crowd)
        person = np.arange(len(track_clip)) - np.repeat(np.cumsum(crowd) - crowd, crowd)
        begin = start[track_clip] + person * length[track_clip]
        dims, centre = len(cache.channels.rstrip("c")), cache.topology.centre
        present, whole, centred = _scan_rows(cache.positions, dims, centre)
        lengths = length[track_clip]
        rows = np.concatenate([np.arange(b, b + n) for b, n in zip(begin, lengths, strict=True)])
        here = present[rows]
        frames = np.add.reduceat(here, np.cumsum(lengths) - lengths, dtype=np.int64)
        keep = frames > 0
        rows = rows[here]
        first = (np.cumsum(frames) - frames)[keep]
        self.is_complete = bool(whole[rows].all())
        self._rows = self._table(rows)
        self._track_first = self._table(first)
        self._track_frames = self._table(frames[keep])
        tracks = np.bincount(track_clip[keep], minlength=len(self.clips))
        if not tracks.all():
            bad = cache.names[self.clips[int(np.argmin(tracks))]]
            raise UserError(f"Clip {bad} of {cache.path} holds no person; convert the data again.")
        self._clip_first = self._table(np.cumsum(tracks) - tracks)
        self._clip_tracks = self._table(tracks)
        positions = mapped_positions(cache)
        self._origins = torch.zeros(len(first), positions.shape[2])
        self._origins[:, :dims] = positions[rows[first], centre, :dims]
        # the centre joint is not detected in the first frame
        for track in np.flatnonzero(~centred[rows[first]]):
            own = self._rows[first[track] : first[track] + frames[keep][track]].cpu()
            self._origins[track] = find_origin(positions[own], centre, dims)
        self._origins = self._origins.to(self.device)
        resident = positions.numel() * positions.element_size() <= resident_bytes
        self._positions = (
            positions.to(self.device) if resident and self.device.type != "cpu" else positions
        )

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def is_on_device(self) -> bool:
        """Whether a gather reads nothing but the device's memory."""
        return self._positions.device.type == self.device.type

    def _table(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64)).to(self.device)

    def tracks(self, clip: Tensor, u: Tensor) -> Tensor:
        """One of each clip's people, chosen by u in [0, 1): clip int64 (B,) -> track int64 (B,)."""
        people = self._clip_tracks[clip]
        return self._clip_first[clip] + (u * people).long().minimum(people - 1)

    def frames(self, track: Tensor) -> Tensor:
        """Number of frames in which the person is present, int64 of track's shape."""
        return self._track_frames[track]

    def origins(self, track: Tensor) -> Tensor:
        """Where the person is centred, (..., C) float32 for track (...,); 0 for a confidence."""
        return self._origins[track]

    def gather(self, track: Tensor, frame: Tensor) -> Tensor:
        """Positions (..., V, C) float32 of `frame` (...,) int64 of the broadcast `track`."""
        rows = self._rows[self._track_first[track] + frame]
        flat = self._positions.index_select(0, rows.flatten().to(self._positions.device))
        return flat.to(self.device, non_blocking=True).view(*rows.shape, *flat.shape[1:])


def mapped_positions(cache: ClipCache) -> Tensor:
    """The cache's positions (rows, V, C) as a tensor on the mapped file; not to be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(cache.positions))


def _scan_rows(
    positions: np.ndarray, dims: int, centre: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows,) bool each: any joint is detected, every joint is, the centre joint is."""
    present, whole, centred = (np.empty(len(positions), dtype=bool) for _ in range(3))
    for begin in range(0, len(positions), SCAN_ROWS):
        block = slice(begin, begin + SCAN_ROWS)
        detected: np.ndarray = (positions[block, :, :dims] != 0).any(axis=2)  # (rows, V)
        present[block], whole[block] = detected.any(1), detected.all(1)
        centred[block] = detected[:, centre]
    return present, whole, centred
