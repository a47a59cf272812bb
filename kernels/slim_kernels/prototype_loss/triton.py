"""prototype_loss as an op of Triton kernels: its fake, backward, autocast and FLOPs."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from slim_kernels.prototype_loss.triton_inputs import Inputs, count_rows, operand, operand_type
from slim_kernels.prototype_loss.triton_stored import stored_bytes, stored_loss
from slim_kernels.prototype_loss.triton_streamed import streamed_loss
from slim_kernels.runtime.registration import cast_under_autocast, count_flops, kernel_op


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
    logits_budget: int,
    need_student: bool,
    need_prototypes: bool,
    given: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss and the gradients of student and student_prototypes (empty where not needed), in
    float32 at least.

    logits_budget: bytes that the teacher's logits may take; where they need more, none are stored.
    given: Sinkhorn-Knopp's potentials (K,), None: they are found here.
    """
    dtype = torch.promote_types(student.dtype, torch.float32)
    e, c, x, d = (operand(v) for v in (student, student_prototypes, teacher, teacher_prototypes))
    process_group = None if group is None else dist.distributed_c10d._resolve_process_group(group)  # type: ignore[attr-defined, arg-type]
    count, start = count_rows(x, valid, dtype, process_group)
    inputs = Inputs(
        *(e, c, x, d, student.to(dtype), weight.to(dtype), target, start, count),
        *(student_temp, teacher_temp, iterations, process_group, need_student, need_prototypes),
        None if given is None else given.to(dtype),
    )
    is_stored = _is_stored(teacher, len(d), logits_budget)
    return (stored_loss if is_stored else streamed_loss)(inputs)


def _is_stored(teacher: Tensor, prototypes: int, budget: int) -> bool:
    return stored_bytes(len(teacher), prototypes, operand_type(teacher).itemsize) <= budget


@prototype_loss.register_fake
def _(student: Tensor, student_prototypes: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    need_student, need_prototypes = others[10:12]
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
    ctx.needed, ctx.dtypes = inputs[12:14], [x.dtype for x in inputs[:2]]
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad: Tensor | None, *_others: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 15
    student, prototypes = (
        prototype_loss_backward(grad, gradient, dtype) if needed else None
        for gradient, needed, dtype in zip(ctx.saved_tensors, ctx.needed, ctx.dtypes, strict=True)
    )
    return (student, prototypes, *[None] * 13)


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
    logits_budget: int,
    need_student: bool,
    need_prototypes: bool,
    given: Tensor | None = None,
) -> int:
    """Products. Stored: the logits, the targets' and the student's means, and the prototypes'
    gradient, teacher and student apart where `target` pairs rows freely. Streamed: two passes an
    iteration (the last one joined to the targets' two), and each mean and gradient takes two.
    """
    n, s, wanted = len(teacher), len(student), need_student + need_prototypes
    if _is_stored(teacher, len(teacher_prototypes), logits_budget):
        passes = n + s * (1 + wanted) + (0 if target is None else n * (1 + need_prototypes))
    else:
        found = 2 * iterations - 1 if given is None else 0
        passes = n * (found + 2 + 2 * need_prototypes) + s * (1 + wanted + need_prototypes)
    return 2 * student_prototypes.numel() * passes


prototype_loss.register_autograd(_gradients, setup_context=_setup)


cast_under_autocast(prototype_loss)


count_flops(prototype_loss, _flops)


count_flops(prototype_loss_backward, lambda *_: 0)
