"""prototype_loss as an op of Triton kernels: its passes, fake, backward, autocast and FLOPs."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from slim_kernels.prototype_loss.triton_kernels import segment_sum_kernel
from slim_kernels.prototype_loss.triton_passes import attend, log_sum_exp
from slim_kernels.runtime.launch import launch
from slim_kernels.runtime.registration import cast_under_autocast, count_flops, kernel_op
from slim_kernels.runtime.target import runs_on_gpu
from slim_kernels.runtime.triton_rows import padded


def _operand(x: Tensor) -> Tensor:
    """As the kernels multiply it: float16 on a GPU, whose 11 bits suffice for unit rows (bfloat16's
    8 do not).
    """
    return x.to(torch.float16).contiguous() if runs_on_gpu(x) else x.contiguous()


def _potentials(
    x: Tensor,
    d: Tensor,
    start: Tensor | None,
    count: Tensor,
    temperature: float,
    iterations: int,
    group: dist.ProcessGroup | None,
) -> Tensor:
    """a (K,): Sinkhorn-Knopp's column potentials; start (N,): 0, or -inf for padding rows."""
    b = start
    for left in reversed(range(iterations)):
        a = log_sum_exp(d, x, b, temperature, count.dtype)
        if group is not None:
            top = a.clone()
            dist.all_reduce(top, dist.ReduceOp.MAX, group=group)
            top = torch.where(top == float("-inf"), 0.0, top)
            total = (a - top).exp()
            dist.all_reduce(total, group=group)
            a = top + total.log()
        a = torch.where(count > 0, -a - torch.full_like(count, len(d)).log(), 0.0)
        if left:
            b = -count.log() - log_sum_exp(x, d, a, temperature, count.dtype)
            b = b if start is None else b + start
    return a


def _pull(weighted: Tensor, target: Tensor | None, rows: int) -> Tensor:
    """(rows, D): the sum of weighted (S, D) over the student rows that look at each teacher row; no
    atomics.
    """
    if target is None:
        return weighted
    out = weighted.new_empty(rows, weighted.shape[1])
    flat, order = target.flatten().sort(stable=True)
    bounds = torch.searchsorted(flat, torch.arange(rows + 1, device=flat.device))
    if rows:
        segment_sum_kernel[rows,](
            weighted.contiguous(),
            order,
            bounds,
            target.shape[1],
            out,
            D=weighted.shape[1],
            DP=padded(weighted.shape[1]),
            **launch("segment_sum", weighted.device, weighted.shape[1]),
        )
    return out


def _scaled(values: Tensor) -> tuple[Tensor, Tensor]:
    """values as an operand, scaled so that the largest is 1 (float16 would lose small ones), and
    the scale.
    """
    scale = (
        values.abs().amax().clamp_min(torch.finfo(values.dtype).tiny)
        if values.numel()
        else values.new_ones(())
    )
    return _operand(values / scale), scale


@kernel_op("slim_kernels::prototype_loss")
def prototype_loss(
    student: Tensor,
    student_prototypes: Tensor,
    teacher: Tensor,
    teacher_prototypes: Tensor,
    target: Tensor | None,
    weight: Tensor,
    valid: Tensor | None,
    student_temp: float,
    teacher_temp: float,
    iterations: int,
    group: str | None,
    need_student: bool,
    need_prototypes: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss and the gradients of student and student_prototypes (empty where not needed), in
    float32 at least.
    """
    dtype = torch.promote_types(student.dtype, torch.float32)
    e, c, x, d = (
        _operand(v.to(dtype)) for v in (student, student_prototypes, teacher, teacher_prototypes)
    )
    process_group = None if group is None else dist.distributed_c10d._resolve_process_group(group)  # type: ignore[attr-defined, arg-type]
    count = (
        torch.full((), len(x), dtype=dtype, device=x.device)
        if valid is None
        else valid.sum().to(dtype)
    )
    start = (
        None
        if valid is None
        else torch.zeros(len(x), dtype=dtype, device=x.device).masked_fill_(~valid, -torch.inf)
    )
    if process_group is not None:
        dist.all_reduce(count, group=process_group)
    a = _potentials(x, d, start, count, teacher_temp, iterations, process_group)
    y, teacher_lse = attend(x, d, c, a, teacher_temp, dtype)
    expected, student_lse = attend(e, c, c, None, student_temp, dtype)
    y_student = y if target is None else y[target].mean(1)
    w = weight.to(dtype)
    wide = student.to(dtype)
    loss = torch.dot(w, student_lse - (wide * y_student).sum(1) / student_temp)
    student_grad, prototype_grad = wide.new_empty(0), wide.new_empty(0)
    if need_student:
        student_grad = (w / student_temp)[:, None] * (expected - y_student)
    if need_prototypes:
        weighted = wide * (w / student_temp)[:, None]
        values, scale = _scaled(weighted)
        mean, lse = attend(c, e, values, -student_lse, student_temp, dtype)
        push = mean * (lse.exp() * scale)[:, None]
        values, scale = _scaled(
            _pull(weighted if target is None else weighted / target.shape[1], target, len(x))
        )
        mean, lse = attend(
            d,
            x,
            values,
            -teacher_lse if start is None else start - teacher_lse,
            teacher_temp,
            dtype,
        )
        prototype_grad = push - mean * ((lse + a).exp() * scale)[:, None]
    return loss, student_grad, prototype_grad


@prototype_loss.register_fake
def _(student: Tensor, student_prototypes: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    need_student, need_prototypes = others[-2:]
    dtype = torch.promote_types(student.dtype, torch.float32)
    return (
        student.new_empty((), dtype=dtype),
        student.new_empty(student.shape if need_student else (0,), dtype=dtype),
        student.new_empty(student_prototypes.shape if need_prototypes else (0,), dtype=dtype),
    )


@kernel_op("slim_kernels::prototype_loss_backward")
def prototype_loss_backward(grad: Tensor, gradient: Tensor, dtype: torch.dtype) -> Tensor:
    """A gradient that the forward found, times that of the loss, in the argument's dtype (a scaled
    loss' gradient need not fit it).
    """
    return (gradient * grad).to(dtype)


@prototype_loss_backward.register_fake
def _(grad: Tensor, gradient: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(gradient, dtype=dtype)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*output[1:])
    ctx.needed, ctx.dtypes = inputs[-2:], [x.dtype for x in inputs[:2]]
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad: Tensor | None, *_others: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 13
    student, prototypes = (
        prototype_loss_backward(grad, gradient, dtype) if needed else None
        for gradient, needed, dtype in zip(ctx.saved_tensors, ctx.needed, ctx.dtypes, strict=True)
    )
    return (student, prototypes, *[None] * 11)


def _flops(
    student: Tensor,
    student_prototypes: Tensor,
    teacher: Tensor,
    teacher_prototypes: Tensor,
    target: Tensor | None,
    weight: Tensor,
    valid: Tensor | None,
    student_temp: float,
    teacher_temp: float,
    iterations: int,
    group: str | None,
    need_student: bool,
    need_prototypes: bool,
) -> int:
    """Products: two Sinkhorn passes an iteration (the last one joined to the targets' two), two of
    the student, and two of each for the prototypes' gradient.
    """
    gradient = 2 if need_prototypes else 0
    passes = len(teacher) * (2 * iterations + 1 + gradient) + len(student) * (2 + gradient)
    return 2 * student_prototypes.numel() * passes


prototype_loss.register_autograd(_gradients, setup_context=_setup)


cast_under_autocast(prototype_loss)


count_flops(prototype_loss, _flops)


count_flops(prototype_loss_backward, lambda *_: 0)
