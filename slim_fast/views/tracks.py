"""Tracks, of one person each: where their frames lie, and reading them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from slim_fast.skeletons import Topology
from slim_fast.views.undetected import find_origin

SCAN_ROWS = 1 << 14


@dataclass(eq=False)
class Tracks:
    """The frames in which people are present, read by track number and frame.

    What is indexed and what comes out is on `device`, where the tensors below are.
    """

    topology: Topology
    channels: str
    is_complete: bool
    """Whether every joint is detected in every frame."""
    _positions: Tensor
    """(rows, V, C) float32 or float16."""
    _first_row: Tensor
    """int64 (N,), of each track's first frame."""
    _track_frames: Tensor
    """int64 (N,), frames of each track."""
    _origins: Tensor
    """(N, C) float32."""
    _gap_first: Tensor | None
    """int64 (N,), where a track that has absences begins in _gaps, -1 for the others, whose rows
    follow each other; None: no track has any.
    """
    _gaps: Tensor | None
    """int32: for each frame of those tracks, how far it is from the first."""

    def frames(self, track: Tensor) -> Tensor:
        """Number of frames in which the person is present, int64 of track's shape."""
        return self._track_frames[track]

    def origins(self, track: Tensor) -> Tensor:
        """Where the person is centred, (..., C) float32 for track (...,); 0 for a confidence."""
        return self._origins[track]

    def rows(self, track: Tensor, frame: Tensor) -> Tensor:
        """int64: the row of `frame` of the broadcast `track`."""
        offset = frame
        if self._gap_first is not None and self._gaps is not None:
            gap = self._gap_first[track]
            place = (gap + frame).clamp(0, len(self._gaps) - 1)
            offset = torch.where(gap < 0, frame, self._gaps[place].long())
        return self._first_row[track] + offset

    def gather(self, track: Tensor, frame: Tensor) -> Tensor:
        """Positions (..., V, C) float32 of `frame` (...,) int64 of the broadcast `track`."""
        rows = self.rows(track, frame)
        flat = self._positions.index_select(0, rows.flatten())
        return flat.float().view(*rows.shape, *flat.shape[1:])


@dataclass(frozen=True)
class ScannedTracks:
    """What a scan finds of tracks, those of people who are never present left out."""

    kept: np.ndarray
    """(tracks,) bool, of all that were scanned."""
    first_row: np.ndarray
    frames: np.ndarray
    origins: np.ndarray
    gap_first: np.ndarray
    gaps: np.ndarray
    is_complete: bool


def scan_tracks(
    positions: np.ndarray, begin: np.ndarray, length: np.ndarray, dims: int, centre: int
) -> ScannedTracks:
    """Look for each track's frames in `positions` (rows, V, C), SCAN_ROWS or a track at a time.

    begin, length: int64 (tracks,), the rows of each. dims: how many channels are coordinates.
    """
    parts = [
        _scan_chunk(positions, begin[part], length[part], dims, centre) for part in _chunks(length)
    ]
    columns = [np.concatenate(column) for column in zip(*(part[:4] for part in parts), strict=True)]
    kept, first_row, frames, origins = columns
    counts = np.concatenate([part[4] for part in parts])  # of gaps, 0 for a track without
    gap_first = np.where(counts > 0, np.cumsum(counts) - counts, -1)
    gaps = np.concatenate([part[5] for part in parts])
    complete = all(part[6] for part in parts)
    return ScannedTracks(kept, first_row, frames, origins, gap_first, gaps, complete)


def _chunks(length: np.ndarray) -> Iterator[slice]:
    """Tracks that have about SCAN_ROWS rows together."""
    number = (np.cumsum(length) - length) // SCAN_ROWS
    bounds = [0, *(np.flatnonzero(np.diff(number)) + 1), len(length)]
    yield from (slice(a, b) for a, b in pairwise(bounds))


def _scan_chunk(
    positions: np.ndarray, begin: np.ndarray, length: np.ndarray, dims: int, centre: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool]:
    rows = np.concatenate([np.arange(b, b + n) for b, n in zip(begin, length, strict=True)])
    is_run = rows[-1] - rows[0] == len(rows) - 1  # tracks lie in the file as they are numbered
    block = np.asarray(positions[rows[0] : rows[-1] + 1] if is_run else positions[rows])
    detected = (block[..., :dims] != 0).any(2)  # (rows, V)
    here = detected.any(1)
    present = np.add.reduceat(here, np.cumsum(length) - length, dtype=np.int64)
    kept = present > 0
    frames = present[kept]
    block, detected, rows = block[here], detected[here], rows[here]
    first = np.cumsum(frames) - frames
    last = first + frames - 1
    origins = np.zeros((len(first), positions.shape[2]), np.float32)
    origins[:, :dims] = block[first, centre, :dims]
    # the centre joint is not detected in the first frame
    for track in np.flatnonzero(~detected[first, centre]):
        own = torch.from_numpy(block[first[track] : last[track] + 1])
        origins[track] = find_origin(own, centre, dims).numpy()
    has_gaps = rows[last] - rows[first] >= frames
    offsets = rows - np.repeat(rows[first], frames)
    gaps = offsets[np.repeat(has_gaps, frames)].astype(np.int32)
    counts = np.where(has_gaps, frames, 0)
    return kept, rows[first], frames, origins, counts, gaps, bool(detected.all())
