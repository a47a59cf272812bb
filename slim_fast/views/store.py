"""The clips that a run reads, by the tracks of their people."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError
from slim_fast.views.memory import Dtype, Memory, place_positions
from slim_fast.views.tracks import Tracks, scan_tracks


class FrameStore(Tracks):
    """Frames by track, for views on `device`.

    Args:
        clips: the clip indices of the cache that this store serves; clip numbers below count within
            them. None: all.
        memory, dtype: where the positions are kept, see `place_positions`.
        people: at most as many people of each clip, the first as ranked by the cache.

    Attributes:
        clips: int64 (N,); topology, channels: of the cache.
        is_staged: whether the positions are not on the device: then indices are the host's, and a
            batch is read by `stage`.
    Memory beside the positions: numbers of each clip and track, and 4 bytes for each frame of a
    person who is absent at times; the cache's file is read a block at a time.
    """

    def __init__(
        self,
        cache: ClipCache,
        clips: Sequence[int] | np.ndarray | None = None,
        device: torch.device | str = "cpu",
        memory: Memory = "auto",
        dtype: Dtype = "fp32",
        people: int = 2,
    ) -> None:
        self.cache = cache
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
        length = length[track_clip]
        dims, centre = len(cache.channels.rstrip("c")), cache.topology.centre
        found = scan_tracks(
            cache.positions, start[track_clip] + person * length, length, dims, centre
        )
        tracks = np.bincount(track_clip[found.kept], minlength=len(self.clips))
        if not tracks.all():
            bad = cache.names[self.clips[int(np.argmin(tracks))]]
            raise UserError(f"Clip {bad} of {cache.path} holds no person; convert the data again.")
        positions = place_positions(cache, self.device, memory, dtype)
        self.is_staged = positions.device.type != self.device.type
        has_gaps = len(found.gaps) > 0
        super().__init__(
            cache.topology,
            cache.channels,
            found.is_complete,
            positions,
            self._table(found.first_row),
            self._table(found.frames),
            self._table(found.origins),
            self._table(found.gap_first) if has_gaps else None,
            self._table(found.gaps) if has_gaps else None,
        )
        self._clip_first = self._table(np.cumsum(tracks) - tracks)
        self._clip_tracks = self._table(tracks)

    def __len__(self) -> int:
        return len(self.clips)

    def _table(self, values: np.ndarray) -> Tensor:
        """Where it is indexed."""
        table = torch.from_numpy(np.ascontiguousarray(values))
        return table if self.is_staged else table.to(self.device)

    def tracks(self, clip: Tensor, u: Tensor) -> Tensor:
        """One of each clip's people, chosen by u in [0, 1): clip int64 (B,) -> track int64 (B,)."""
        people = self._clip_tracks[clip]
        return self._clip_first[clip] + (u * people).long().minimum(people - 1)

    def stage(self, track: Tensor) -> Tracks:
        """All frames of some tracks, int64 (B,) on the host, sent to the device: tracks 0 to B - 1.

        A GPU need not wait for it, nor does the host for the GPU.
        """
        frames = self.frames(track)
        first = frames.cumsum(0) - frames
        frame = torch.arange(int(frames.sum())) - first.repeat_interleave(frames)
        rows = self.rows(track.repeat_interleave(frames), frame)
        read = torch.empty(
            (len(rows), *self._positions.shape[1:]),
            dtype=self._positions.dtype,
            pin_memory=self.device.type == "cuda",
        )
        torch.index_select(self._positions, 0, rows, out=read)
        return Tracks(
            self.topology,
            self.channels,
            self.is_complete,
            send(read, self.device),
            send(first, self.device),
            send(frames, self.device),
            send(self.origins(track), self.device),
            None,
            None,
        )


def send(values: Tensor, device: torch.device) -> Tensor:
    """A host's tensor on the device; the host does not wait for a GPU."""
    if device.type == "cuda" and not values.is_pinned():
        values = values.pin_memory()  # PyTorch keeps it until it has arrived
    return values.to(device, non_blocking=True)
