"""Global memory: the tensors of a launch, and who touched which of their bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ptx_emulator.formats import WORDS, Array


@dataclass
class Tensor:
    """A tensor that a kernel may touch."""

    address: int
    data: Array
    """(bytes,) uint8, a view of the tensor's own memory."""
    item: int = 4
    """Bytes of an element: conflicts of blocks are looked for in this grain."""
    name: str = ""


Record = tuple[int, int, Array, Array]  # address, grain, writers and readers of each grain
MANY = -2  # several blocks read it


class GlobalMemory:
    """The memory of one launch. Every access is checked against the tensors; those that overlap are
    searched in order, so pass views before what they are views of.
    """

    def __init__(self, tensors: list[Tensor], written: set[int] | None = None) -> None:
        """written: which tensors a kernel may write, by number (default: all). Others need no
        record of who read them.
        """
        self.tensors = tensors
        self.lows = np.array([t.address for t in tensors], np.uint64)
        self.highs = np.array([t.address + len(t.data) for t in tensors], np.uint64)
        # tensors in the same memory share their record
        self.records: list[Record | None] = []
        spans = _spans(tensors, written)
        for tensor in tensors:
            span = next((s for s in spans if s[0] <= tensor.address < s[1]), None)
            self.records.append(span[2] if span else None)

    def describe(self, address: int) -> str:
        """An address in a finding's words: the nearest tensor and the byte within it."""
        if not self.tensors:
            return f"address {address:#x}"
        near = min(
            self.tensors,
            key=lambda t: max(t.address - address, address - t.address - len(t.data) + 1, 0),
        )
        name = near.name or f"the tensor at {near.address:#x}"
        return f"byte {address - near.address} of {name}, which has {len(near.data)}"

    def locate(self, addresses: Array, size: int) -> Array:
        """(N,) the number of the tensor that holds each access of `size` bytes, or -1."""
        found = np.full(addresses.shape, -1, np.int64)
        if not addresses.size:
            return found
        for number in range(len(self.tensors) - 1, -1, -1):
            inside = (addresses >= self.lows[number]) & (
                addresses + np.uint64(size) <= self.highs[number]
            )
            if inside.all():
                found[...] = number
            elif inside.any():
                found[inside] = number
        return found

    def load(self, number: int, addresses: Array, size: int) -> Array:
        """(N, size) bytes of the tensor of that number."""
        rows, index = self._elements(number, addresses, size)
        return rows[index].view(np.uint8).reshape(-1, size)

    def store(self, number: int, addresses: Array, values: Array) -> None:
        """Write (N, size) bytes."""
        rows, index = self._elements(number, addresses, values.shape[1])
        rows[index] = np.ascontiguousarray(values).view(rows.dtype).reshape(index.shape)

    def _elements(self, number: int, addresses: Array, size: int) -> tuple[Array, Array]:
        """The tensor's memory as elements of `size` bytes and each access' index; bytes where they
        lie otherwise.
        """
        tensor = self.tensors[number]
        offsets = (addresses - np.uint64(tensor.address)).astype(np.int64)
        start = tensor.data.__array_interface__["data"][0]
        if size in WORDS and start % size == 0 and not (offsets % size).any():
            usable = len(tensor.data) // size * size
            return tensor.data[:usable].view(WORDS[size]), offsets // size
        return tensor.data, offsets[:, None] + np.arange(size)

    def conflicts(
        self, number: int, addresses: Array, size: int, blocks: Array, write: bool
    ) -> Array | None:
        """Note these accesses. Returns (N,) bool: whether another block touched the same bytes, and
        one of the two writes; None: nobody writes this tensor.
        """
        record = self.records[number]
        if record is None:
            return None
        start, item, writers, readers = record
        grains = max(1, size // item)
        index = ((addresses - np.uint64(start)) // np.uint64(item)).astype(np.int64)[:, None]
        index = index + np.arange(grains)
        own = blocks[:, None].astype(np.int32)
        writer = writers[index]
        clash = (writer != -1) & (writer != own)
        if write:
            reader = readers[index]
            clash |= (reader != -1) & (reader != own)
            writers[index] = own
            # two blocks in this very instruction: the one that lost differs from what stands there
            clash |= writers[index] != own
        else:
            reader = readers[index]
            readers[index] = np.where((reader == -1) | (reader == own), own, MANY)
            lost = readers[index] != own
            if lost.any():
                readers[index[lost]] = MANY
        return clash.any(1)


def _spans(tensors: list[Tensor], written: set[int] | None) -> list[tuple[int, int, Record]]:
    """The stretches of memory that are written, each with (start, grain, writers, readers)."""
    merged: list[list[int]] = []
    for number, tensor in sorted(enumerate(tensors), key=lambda pair: pair[1].address):
        low, high = tensor.address, tensor.address + len(tensor.data)
        may_write = int(written is None or number in written)
        if merged and low < merged[-1][1]:
            last = merged[-1]
            last[1], last[2], last[3] = (
                max(last[1], high),
                min(last[2], tensor.item),
                last[3] | may_write,
            )
        else:
            merged.append([low, high, tensor.item, may_write])
    spans = []
    for low, high, item, may_write in merged:
        if may_write:
            count = -(-(high - low) // item) + 1
            nobody = np.full(count, -1, np.int32)
            spans.append((low, high, (low, item, nobody, nobody.copy())))
    return spans
