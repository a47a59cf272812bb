"""What both paths of prototype_loss' kernels take, and the parts that they share."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from slim_kernels.prototype_loss.triton_kernels import segment_sum_kernel
from slim_kernels.runtime.launch import launch
from slim_kernels.runtime.target import runs_on_gpu
from slim_kernels.runtime.triton_rows import padded

Result = tuple[Tensor, Tensor, Tensor]
"""The loss, and the gradients of student and prototypes, empty where not needed."""


@dataclass(frozen=True)
class Inputs:
    """The op's arguments, its matrices as operands."""

    e: Tensor
    """(S, D), students."""
    c: Tensor
    """(K, D), their prototypes."""
    x: Tensor
    """(N, D), teachers."""
    d: Tensor
    """(K, D), their prototypes."""
    wide: Tensor
    """e in the dtype of sums, float32 at least."""
    weight: Tensor
    """(S,), in the dtype of sums."""
    target: Tensor | None
    start: Tensor | None
    """(N,): 0, or -inf for padding rows; None: there are none."""
    count: Tensor
    """Rows of all ranks that are none."""
    student_temp: float
    teacher_temp: float
    iterations: int
    group: dist.ProcessGroup | None
    need_student: bool
    need_prototypes: bool
    given: Tensor | None
    """Column potentials (K,) that are known already."""

    @property
    def dtype(self) -> torch.dtype:
        """Of sums."""
        return self.wide.dtype

    @property
    def weighted(self) -> Tensor:
        """(S, D): w_i e_i / τ, what a row of logits' gradient is multiplied with."""
        return self.wide * (self.weight / self.student_temp)[:, None]


def operand_type(x: Tensor) -> torch.dtype:
    """In which x is multiplied: float16 on a GPU, whose 11 bits suffice for unit rows (bfloat16's 8
    do not); float32 at least elsewhere.
    """
    return torch.float16 if runs_on_gpu(x) else torch.promote_types(x.dtype, torch.float32)


def operand(x: Tensor) -> Tensor:
    """As it is multiplied."""
    return x.to(operand_type(x)).contiguous()


def scaled(values: Tensor) -> tuple[Tensor, Tensor]:
    """values as an operand, scaled so that the largest is 1 (float16 would lose small ones), and
    the scale.
    """
    scale = (
        values.abs().amax().clamp_min(torch.finfo(values.dtype).tiny)
        if values.numel()
        else values.new_ones(())
    )
    return operand(values / scale), scale


def count_rows(
    x: Tensor, valid: Tensor | None, dtype: torch.dtype, group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor | None]:
    """`count` and `start` of the Inputs."""
    if valid is None:
        count, start = torch.full((), len(x), dtype=dtype, device=x.device), None
    else:
        count = valid.sum().to(dtype)
        start = torch.zeros(len(x), dtype=dtype, device=x.device)
        start.masked_fill_(~valid, -torch.inf)
    if group is not None:
        dist.all_reduce(count, group=group)
    return count, start


def potentials(
    inputs: Inputs,
    lse_of_columns: Callable[[Tensor | None], Tensor],
    lse_of_rows: Callable[[Tensor], Tensor],
) -> Tensor:
    """a (K,): Sinkhorn-Knopp's column potentials.

    lse_of_columns: log Σ_n exp(x_n · d_k / τ + b_n), (K,), of b or of zeros; lse_of_rows: the same
    over k, (N,), of a.
    """
    if inputs.given is not None:
        return inputs.given
    count, start, group = inputs.count, inputs.start, inputs.group
    b = start
    for left in reversed(range(inputs.iterations)):
        a = lse_of_columns(b)
        if group is not None:
            top = a.clone()
            dist.all_reduce(top, dist.ReduceOp.MAX, group=group)
            top = torch.where(top == float("-inf"), 0.0, top)
            total = (a - top).exp()
            dist.all_reduce(total, group=group)
            a = top + total.log()
        a = torch.where(count > 0, -a - torch.full_like(count, len(inputs.d)).log(), 0.0)
        if left:
            b = -count.log() - lse_of_rows(a)
            b = b if start is None else b + start
    return a


def pull(inputs: Inputs) -> Tensor:
    """(N, D): the sum of `weighted` over the student rows that look at each teacher row, divided by
    a row's targets; no atomics.
    """
    target, rows = inputs.target, len(inputs.x)
    if target is None:
        return inputs.weighted
    values = inputs.weighted / target.shape[1]
    out = values.new_empty(rows, values.shape[1])
    flat, order = target.flatten().sort(stable=True)
    bounds = torch.searchsorted(flat, torch.arange(rows + 1, device=flat.device))
    if rows:
        segment_sum_kernel[rows,](
            values.contiguous(),
            order,
            bounds,
            target.shape[1],
            out,
            D=values.shape[1],
            DP=padded(values.shape[1]),
            **launch("segment_sum", values.device, values.shape[1]),
        )
    return out
