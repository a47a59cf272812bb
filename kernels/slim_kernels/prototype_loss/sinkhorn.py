"""Sinkhorn-Knopp over rows that are streamed: a scaling of K numbers, and exponentials up to a
fixed limit, live from one pass to the next.
"""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from slim_kernels.runtime.arguments import expect_constant
from slim_kernels.runtime.matmul import matmul

# Logits computed at once. 16 MB in float32: large enough that matrix products run at full speed,
# small enough for a CPU's cache.
CHUNK_LOGITS = 1 << 22
# The same on a GPU, which needs many rows at once to be busy: 256 MB in float32.
GPU_CHUNK_LOGITS = 1 << 26
# Exponentials that are stored instead of recomputed at every iteration: 64 MB in float32.
KEPT_LOGITS = 1 << 24
# exp(±1 / temperature), summed over everything, must fit float64.
LEAST_TEMPERATURE = 0.004


def chunk_rows(columns: int, device: str = "cpu") -> int:
    """How many rows times `columns` stay within a chunk of a kind of device (16 at least)."""
    logits = CHUNK_LOGITS if device == "cpu" else GPU_CHUNK_LOGITS
    return max(16, logits // max(columns, 1))


def row_chunks(rows: int, columns: int, device: str = "cpu") -> Iterator[slice]:
    """Slices over `rows`, each of `chunk_rows(columns, device)` rows but the last."""
    size = chunk_rows(columns, device)
    for begin in range(0, rows, size):
        yield slice(begin, min(begin + size, rows))


def computing_dtype(features: Tensor, temperature: float) -> torch.dtype:
    """The dtype in which exp(±1 / temperature), summed over everything, neither overflows nor
    vanishes.

    Logits of unit rows lie in [-1, 1] / temperature, so no maximum needs to be subtracted.
    Raises ValueError when not even float64 holds them (temperature below 0.004).
    """
    if not temperature >= LEAST_TEMPERATURE:
        raise ValueError(
            f"the temperature is {temperature}; it must be at least {LEAST_TEMPERATURE}"
        )
    if features.dtype == torch.float64 or temperature < 0.033:
        return torch.float64
    return torch.float32


class ExpLogits:
    """exp(rows · prototypes / temperature), (N, K), chunk by chunk, as often as it is iterated
    over.

    With `keep` the first chunks, up to KEPT_LOGITS numbers, stay in memory; the others are computed
    again each time. A chunk that was handed out last may be overwritten by whoever iterates for the
    last time.
    """

    def __init__(
        self, rows: Tensor, prototypes: Tensor, temperature: float, keep: bool = False
    ) -> None:
        self.rows, self.prototypes, self._temperature = rows, prototypes, temperature
        self._device = rows.device.type
        size = chunk_rows(len(prototypes), self._device)
        self._to_keep = KEPT_LOGITS // (size * max(len(prototypes), 1)) if keep else 0
        self._kept: list[Tensor] = []

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        n, k = len(self.rows), len(self.prototypes)
        for number, chunk in enumerate(row_chunks(n, k, self._device)):
            if number < len(self._kept):
                yield chunk, self._kept[number]
                continue
            rows = self.rows[chunk]
            exponentials = matmul(rows / self._temperature, self.prototypes.t()).exp_()
            if number < self._to_keep:
                self._kept.append(exponentials)
            yield chunk, exponentials


def sinkhorn_scaling(
    kernel: ExpLogits,
    iterations: int = 3,
    group: dist.ProcessGroup | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    """The exponentials of `sinkhorn_potentials`, (K,), for a kernel of this rank's rows.

    valid: (N,) bool, rows that count; None: all.

    Raises: ValueError for less than one iteration.
    """
    if iterations < 1:
        raise ValueError(f"sinkhorn_iterations is {iterations}; it must be at least 1")
    features, k = kernel.rows, len(kernel.prototypes)
    ones = features.new_ones(len(features)) if valid is None else valid.to(features.dtype)
    count = ones.sum()
    if group is not None:
        dist.all_reduce(count, group=group)
    scale: Tensor | None = None
    for _ in range(iterations):
        columns = features.new_zeros(k)
        for rows, chunk in kernel:
            row_weight = ones[rows] if scale is None else ones[rows] / (count * (chunk @ scale))
            columns.addmv_(chunk.t(), row_weight)
        if group is not None:
            dist.all_reduce(columns, group=group)
        scale = 1 / (k * columns)
    assert scale is not None
    return torch.where(count > 0, scale, 1.0)


def sinkhorn_potentials(
    features: Tensor,
    prototypes: Tensor,
    temperature: float,
    iterations: int = 3,
    group: dist.ProcessGroup | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    """The prototypes' potentials a after `iterations` of Sinkhorn-Knopp (paper section 3.3; SwAV,
    algorithm 1).

    The assignment is softmax over k of features · prototypes / temperature + a: the last row
    normalisation, to rows that sum to 1, is left to whoever reads the assignment.

    Args:
        features: (N, D) unit rows (this rank's, when `group` is given).
        prototypes: (K, D) unit rows.
        temperature: at least 0.004.
        iterations: at least 1.
        group: process group over which the columns are summed; features never travel.
        valid: (N,) bool, rows that count; None: all.

    Returns: (K,) in float32, or float64 for float64 features and for temperatures below 0.033.
    Raises: ValueError for a temperature that is too low, and for an argument that requires a
    gradient: none is computed.
    Memory: O(N + K), one chunk of CHUNK_LOGITS and KEPT_LOGITS stored. A row count of zero on every
    rank gives zeros.
    """
    expect_constant(
        "sinkhorn_potentials", features=features, prototypes=prototypes, temperature=temperature
    )
    dtype = computing_dtype(features, temperature)
    kernel = ExpLogits(features.to(dtype), prototypes.to(dtype), temperature, keep=True)
    with torch.autocast(features.device.type, enabled=False):
        return sinkhorn_scaling(kernel, iterations, group, valid).log()
