"""Packed sequences in chunks that stay in a core's cache, one after the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from slim_kernels.attention.cpu import equal_length_runs


@dataclass(frozen=True)
class Chunk:
    """Some neighbouring sequences of one length N, of which n tokens each are queries: all, or only
    the first.
    """

    rows: slice
    """Of the packed tokens."""
    sequences: int
    step: int
    """Every step-th row is a query: 1 or N."""
    times: Tensor
    """int64 (sequences, N), or (1, N) where all have the same; never negative."""
    hidden: Tensor | None
    """(sequences, 1, N) bool: keys that are masked out, or None."""

    @property
    def query_rows(self) -> slice:
        """Those of the packed tokens that are queries."""
        return slice(self.rows.start, self.rows.stop, self.step)


def split_into_chunks(
    cu_seqlens: Tensor,
    queries: Tensor | None,
    time: Tensor,
    visible: Tensor | None,
    sequences_in_chunk: Callable[[int], int],
) -> Iterator[Chunk]:
    """Chunks of at most `sequences_in_chunk(length)` sequences, in order; empty sequences are left
    out.

    Raises: ValueError when `queries` (S,) holds another number than 1 or the sequence's length.
    """
    time = time.long().clamp_min(0)
    for first, sequences, length, query_count in equal_length_runs(cu_seqlens, queries):
        if query_count not in (1, length):
            raise ValueError(
                f"queries must be 1 or a sequence's length; got {query_count} of {length}"
            )
        end = first + sequences * length
        times = time[first:end].view(sequences, length)
        if (times == times[0]).all():  # then one row of rotations serves every sequence
            times = times[:1]
        size = length * sequences_in_chunk(length)
        for begin in range(first, end, size):
            rows = slice(begin, min(begin + size, end))
            count = (rows.stop - begin) // length
            hidden = None if visible is None else ~visible[rows].view(count, 1, length)
            yield Chunk(
                rows,
                count,
                length // query_count,
                times if len(times) == 1 else time[rows].view(count, length),
                hidden if hidden is not None and bool(hidden.any()) else None,
            )


def count_times(time: Tensor) -> int:
    """How many times a table of rotations must hold for the (total,) integers `time`."""
    return max(int(time.max()) + 1, 1) if len(time) else 0
