"""Shared memory of the blocks that run in step, with a record of which warp touched each grain of
it since the last barrier.

As long as all blocks touch the same addresses one record serves them all; the first access that
differs between blocks gives each block its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ptx_emulator.formats import WORDS, Array

_WARPS = 64  # a stamp is epoch * 64 + warp
_MANY = 63  # the warp of a stamp of several readers
_RECORDS = ("writer", "reader", "fenced", "arriving", "leaving")


@dataclass(frozen=True)
class Access:
    """Where lanes touch shared memory."""

    rows: Array | None
    """(N,) each lane's block, counted within its machine; None: all blocks touch the same."""
    offsets: Array
    """(N,) bytes, all inside."""
    size: int
    warps: Array
    """(N,) the lane's warp; of a warpgroup the first."""

    def part(self, chosen: Array) -> Access:
        """The same, of the blocks that are `chosen`."""
        if self.rows is None:
            return self
        mine = chosen[self.rows]
        rows = (np.cumsum(chosen) - 1)[self.rows[mine]]
        return Access(rows, self.offsets[mine], self.size, self.warps[mine])


class SharedMemory:
    """`size` bytes in each of `blocks` blocks; `grain`: bytes that are tracked as one."""

    def __init__(self, blocks: int, size: int, grain: int) -> None:
        self.size, self.grain = size, grain
        size = -(-max(size, 16) // 16) * 16
        self.data = np.zeros((blocks, size), np.uint8)
        grains = size // grain
        # (1 or blocks, grains); a stamp of -1: not since the launch began
        self.writer = np.full((1, grains), -1, np.int32)
        self.reader = np.full((1, grains), -1, np.int32)
        self.fenced = np.ones((1, grains), bool)
        self.arriving = np.zeros((1, grains), np.int16)  # cp.async that were not waited for
        self.leaving = np.zeros((1, grains), np.int16)  # wgmma that were not waited for
        self.epoch = 0

    def part(self, chosen: Array) -> SharedMemory:
        """The memory of the blocks that are `chosen` (a bool each)."""
        other = object.__new__(SharedMemory)
        other.__dict__.update(self.__dict__)
        other.data = self.data[chosen]
        for name in _RECORDS:
            record = getattr(self, name)
            setattr(other, name, record[chosen] if len(record) > 1 else record.copy())
        return other

    def barrier(self) -> None:
        """What was touched before is ordered before what comes."""
        self.epoch += 1

    def _where(self, access: Access) -> tuple[Array, Array]:
        """The record's indices: (N, grains), or (blocks, N, grains) once blocks differ."""
        columns = (access.offsets // self.grain)[:, None]
        if access.size > self.grain:
            columns = columns + np.arange(access.size // self.grain)
        blocks = len(self.data)
        if access.rows is None:
            if len(self.writer) == 1:
                return np.zeros((1, 1), np.int64), columns
            return np.arange(blocks)[:, None, None], columns
        if len(self.writer) == 1 < blocks:
            for name in _RECORDS:
                setattr(self, name, np.repeat(getattr(self, name), blocks, 0))
        return access.rows[:, None], columns

    def note_read(self, access: Access, proxy: bool = False) -> dict[str, Array]:
        """Note reads; `proxy`: by wgmma, for a warpgroup. Returns kind of finding -> bools, of
        which the last axis is the lanes.
        """
        where = self._where(access)
        writer = self.writer[where]
        warp = access.warps[:, None]
        stamp = (self.epoch * _WARPS + warp).astype(np.int32)
        wrong: dict[str, Array] = {
            "uninitialised": writer < 0,
            "in flight": self.arriving[where] > 0,
        }
        recent = writer >= self.epoch * _WARPS
        # wgmma needs a barrier behind its own warpgroup's writes too
        wrong["race"] = recent if proxy else recent & (writer != stamp)
        if proxy:
            wrong["proxy"] = ~self.fenced[where] & (writer >= 0)
        reader = self.reader[where]
        others = (reader >= self.epoch * _WARPS) & (reader != stamp)
        many = self.epoch * _WARPS + _MANY
        new = np.where(others, many, stamp)
        self.reader[where] = new
        lost = self.reader[where] != new  # several warps read it in this very instruction
        if lost.any():
            rows, columns = np.broadcast_arrays(*where)
            self.reader[rows[lost], columns[lost]] = many
        return {kind: np.asarray(bad.any(-1)) for kind, bad in wrong.items() if np.any(bad)}

    def write(self, access: Access, values: Array) -> dict[str, Array]:
        """Write (blocks, N, size) or (N, size) bytes and note it; returns as `note_read`."""
        where = self._where(access)
        writer, reader = self.writer[where], self.reader[where]
        stamp = (self.epoch * _WARPS + access.warps[:, None]).astype(np.int32)
        first = self.epoch * _WARPS
        wrong: dict[str, Array] = {
            "race": ((writer >= first) & (writer != stamp))
            | ((reader >= first) & (reader != stamp)),
            "in flight": (self.arriving[where] > 0) | (self.leaving[where] > 0),
        }
        self.writer[where] = stamp
        self.fenced[where] = False
        words: Array = self.data.view(WORDS[access.size])
        index = access.offsets // access.size
        place = (slice(None) if access.rows is None else access.rows, index)
        values = np.ascontiguousarray(values)
        words[place] = values.view(words.dtype)[..., 0]
        lost = self.writer[where] != stamp
        if lost.any():
            # several warps wrote here at once: harmless where all wrote the same, as threads do
            # that hold copies of one element
            differs = (self.load(access) != values).any(-1)[..., None]
            wrong["race"] = wrong["race"] | (lost & differs)
        return {kind: np.asarray(bad.any(-1)) for kind, bad in wrong.items() if np.any(bad)}

    def begin(self, access: Access, record: str) -> None:
        """An asynchronous copy into (arriving) or product from (leaving) these places begins."""
        getattr(self, record)[self._where(access)] += 1

    def end(self, access: Access, record: str) -> None:
        """It was waited for; what arrived counts as written now, what left as read now, and by all
        warps: one that waited knows only its own part of the product to be done.
        """
        where = self._where(access)
        getattr(self, record)[where] -= 1
        if record == "arriving":
            self.writer[where] = self.epoch * _WARPS + access.warps[:, None]
        else:
            self.reader[where] = self.epoch * _WARPS + _MANY

    def fence(self, warps: Array) -> None:
        """fence.proxy.async by these warps: covers their own writes, and all before the last
        barrier.
        """
        self.fenced |= (self.writer < self.epoch * _WARPS) | np.isin(self.writer % _WARPS, warps)

    def load(self, access: Access) -> Array:
        """(N, size) bytes; (blocks, N, size) where all blocks touch the same."""
        words: Array = self.data.view(WORDS[access.size])
        index = access.offsets // access.size
        taken = words[:, index] if access.rows is None else words[access.rows, index]
        return taken[..., None].view(np.uint8)
