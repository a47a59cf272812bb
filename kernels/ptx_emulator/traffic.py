"""What a launch executed and moved, counted while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ptx_emulator.formats import Array
from ptx_emulator.parser import Program
from ptx_emulator.shared_memory import Access

if TYPE_CHECKING:
    from ptx_emulator.machine import Machine


_BLOCK = 1 << 43  # more than there are sectors in an address space of 48 bits
_WORDS = 1 << 20  # more than there are words in shared memory, and a multiple of the banks


class Traffic:
    """Counts by instruction of a program."""

    def __init__(self, program: Program, detailed: bool) -> None:
        """detailed: count sectors and bank conflicts as well."""
        count = len(program.instructions)
        self.detailed = detailed
        self.executed = np.zeros(count, np.int64)
        """warps that executed it"""
        self.sectors = np.zeros(count, np.int64)
        """32-byte sectors of global memory that its warps asked for"""
        self.wavefronts = np.zeros(count, np.int64)
        """passes of shared memory that its warps took; without bank conflicts the least"""
        self.fetched: set[int] = set()
        """each block's 32-byte sectors of global memory, once for loads and once for stores: (2 *
        block + 1 for stores) * 2 ** 43 + number of the sector
        """
        self._stores = [i.name in ("st", "atom", "red") for i in program.instructions]

    @property
    def touched(self) -> set[int]:
        """The sectors that anything loaded, and (plus 2 ** 43) those that anything stored."""
        return {pair % (2 * _BLOCK) for pair in self.fetched}

    def note_global(self, m: Machine, addresses: Array, lanes: Array | None, size: int) -> None:
        """A global access of these lanes."""
        if not self.detailed:
            return
        numbers = np.arange(len(addresses)) if lanes is None else lanes
        sector = addresses.astype(np.int64) // 32
        self.sectors[m.pc] += len(np.unique(numbers // 32 * _BLOCK + sector))
        owners = m.owners if lanes is None else m.owners[lanes]
        kind = 2 * owners.astype(np.int64) + self._stores[m.pc]
        self.fetched.update(np.unique(kind * _BLOCK + sector).tolist())

    def note_shared(self, m: Machine, access: Access, lanes: Array | None) -> None:
        """A shared access of these lanes, 4 bytes a bank: a warp's wavefronts are the most
        different words that one bank must serve; 8 and 16 bytes go to half and quarter warps.
        """
        if not self.detailed:
            return
        words = max(access.size // 4, 1)
        lane = np.arange(len(access.offsets)) if lanes is None else lanes
        rows = 0 if access.rows is None else access.rows
        # lanes of one request: (row, warp, part of the warp)
        request = (np.asarray(rows) * 64 + access.warps) * words + lane % 32 * words // 32
        word = access.offsets[:, None] // 4 + np.arange(words)
        # each word of a request once
        pairs = np.unique(np.repeat(request, words) * _WORDS + word.reshape(-1))
        first = np.flatnonzero(np.diff(pairs // _WORDS, prepend=-1))
        number = np.repeat(np.arange(len(first)), np.diff(first, append=len(pairs)))
        banks = np.bincount(number * 32 + pairs % 32, minlength=32 * len(first))
        total = int(banks.reshape(-1, 32).max(1).sum())
        self.wavefronts[m.pc] += total * (len(m.blocks) if access.rows is None else 1)

    def note_matrices(self, m: Machine, rows: Array, count: int) -> None:
        """ldmatrix or stmatrix of `count` matrices: 8 rows of 16 bytes are one request."""
        if not self.detailed:
            return
        whole = np.broadcast_to(rows, (len(rows), m.threads)).reshape(-1, 4, 8)[:, :count]
        bank = whole.astype(np.int64) // 16 % 8
        same = (np.sort(bank, -1)[..., :, None] == np.arange(8)).sum(-2).max(-1)
        factor = 1 if len(rows) > 1 else len(m.blocks)
        self.wavefronts[m.pc] += int(same.sum()) * factor
