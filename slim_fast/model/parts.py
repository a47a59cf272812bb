"""What the losses of a part of a batch need of the whole batch.

A batch is divided over processes, and in each over parts that are computed one after the other. The
mean of the parts' losses is the whole batch's loss, and of their gradients its gradient.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from slim_fast.model.objectives import nearest_rows


@dataclass(frozen=True)
class BatchPart:
    """Of a method's `survey`, for one of the parts of a process."""

    teacher: Any
    """The teacher's features of this part."""
    contrastive: Tensor | None
    """Sinkhorn-Knopp's potentials (K,) over the whole batch; None: the term has no weight."""
    masked: Tensor | None
    """The same for masked feature modelling."""
    cls: Tensor | None
    """(N, 2, D) the student's global CLS of the whole batch; None: KoLeo has no weight."""
    nearest: Tensor | None
    """int64 (N, 2), each of those rows' nearest other one."""
    first: int
    """Which of those rows is this part's first."""


def gather_rows(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Rows (n, ...) of every process to (processes * n, ...), as constants."""
    if group is None:
        return x
    rows = [torch.empty_like(x) for _ in range(group.size())]
    dist.all_gather(rows, x.contiguous(), group=group)
    return torch.cat(rows)


def rank_of(group: dist.ProcessGroup | None) -> int:
    """This process' number in a group."""
    return 0 if group is None else group.rank()


def mean_of_parts(value: Tensor, parts: int, group: dist.ProcessGroup | None) -> Tensor:
    """A sum over this process' parts to the mean over all processes' parts."""
    if group is None:
        return value / parts
    value = value.clone()
    dist.all_reduce(value, group=group)
    return value / (parts * group.size())


def concatenate(parts: list[Tensor | None]) -> Tensor | None:
    """The parts' rows; None where they have none."""
    return None if parts[0] is None else torch.cat([part for part in parts if part is not None])


def share_cls(cls: Tensor, group: dist.ProcessGroup | None) -> tuple[Tensor, Tensor]:
    """The student's global CLS (n, 2, D) of this process to that of all (N, 2, D), and each row's
    nearest other one of its view, int64 (N, 2), for which each process searches those of its own.
    """
    whole, first = gather_rows(cls, group), rank_of(group) * len(cls)
    own = [nearest_rows(whole[:, view], first, len(cls)) for view in range(2)]
    return whole, gather_rows(torch.stack(own, 1), group)
