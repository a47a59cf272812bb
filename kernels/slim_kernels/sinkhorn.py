"""Sinkhorn-Knopp over rows that are streamed: only potentials of N or K numbers live from one pass to the next."""

import math
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

# Logits alive at once. 16 MB in float32: large enough that matrix products run at full speed, small enough for a CPU's
# cache.
CHUNK_LOGITS = 1 << 22


def row_chunks(rows: int, columns: int) -> Iterator[slice]:
    """Slices over `rows` so that one slice times `columns` stays within CHUNK_LOGITS (16 rows at least)."""
    size = max(16, CHUNK_LOGITS // max(columns, 1))
    for begin in range(0, rows, size):
        yield slice(begin, min(begin + size, rows))


def chunk_buffer(rows: int, columns: int, like: Tensor) -> Tensor:
    """One buffer that every slice of `row_chunks(rows, columns)` fits into."""
    return like.new_empty(min(rows, max(16, CHUNK_LOGITS // max(columns, 1))), columns)


def computing_dtype(features: Tensor, temperature: float) -> torch.dtype:
    """The dtype in which exp(±1 / temperature), summed over everything, neither overflows nor vanishes.

    Logits of unit rows lie in [-1, 1] / temperature, so no maximum needs to be subtracted.
    Raises ValueError when not even float64 holds them (temperature below 0.004).
    """
    if not temperature >= 0.004:
        raise ValueError(f"the temperature is {temperature}; it must be at least 0.004")
    if features.dtype == torch.float64 or temperature < 0.033:
        return torch.float64
    return torch.float32


def exp_logits(rows: Tensor, prototypes: Tensor, temperature: float, bias: Tensor | None, buffer: Tensor) -> Tensor:
    """exp(rows · prototypes / temperature + bias) in the head of `buffer`: (n, D), (K, D), (K,) -> (n, K)."""
    out = buffer[: len(rows)]
    if bias is None:
        torch.mm(rows / temperature, prototypes.t(), out=out)
    else:
        torch.addmm(bias, rows, prototypes.t(), alpha=1 / temperature, out=out)
    return out.exp_()


def sinkhorn_potentials(
    features: Tensor,
    prototypes: Tensor,
    temperature: float,
    iterations: int = 3,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """The prototypes' potentials a after `iterations` of Sinkhorn-Knopp (paper section 3.3; SwAV, algorithm 1).

    The assignment is softmax over k of features · prototypes / temperature + a: the last row normalisation, to rows
    that
    sum to 1, is left to whoever reads the assignment.

    Args:
        features: (N, D) unit rows (this rank's share when `group` is given).
        prototypes: (K, D) unit rows.
        temperature: at least 0.004.
        iterations: at least 1.
        group: process group over which the columns are summed; features never travel.

    Returns: (K,) in float32, or float64 for float64 features and for temperatures below 0.033.
    Memory: O(N + K) and one chunk of CHUNK_LOGITS. A row count of zero on every rank gives zeros.
    """
    if iterations < 1:
        raise ValueError(f"sinkhorn_iterations is {iterations}; it must be at least 1")
    dtype = computing_dtype(features, temperature)
    features, prototypes = features.to(dtype), prototypes.to(dtype)
    n, k = len(features), len(prototypes)
    count = torch.tensor(float(n), dtype=dtype, device=features.device)
    if group is not None:
        dist.all_reduce(count, group=group)
    buffer = chunk_buffer(n, k, features)
    potential: Tensor | None = None
    for _ in range(iterations):
        columns = features.new_zeros(k)
        for rows in row_chunks(n, k):
            kernel = exp_logits(features[rows], prototypes, temperature, potential, buffer)
            row_weight = kernel.new_ones(len(kernel)) if potential is None else 1 / (count * kernel.sum(1))
            columns.addmv_(kernel.t(), row_weight)
        if group is not None:
            dist.all_reduce(columns, group=group)
        step = -math.log(k) - columns.log()
        potential = step if potential is None else potential + step
    assert potential is not None
    return torch.where(count > 0, potential, 0.0)
