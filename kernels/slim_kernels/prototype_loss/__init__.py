"""The feature-reconstruction loss: cross-entropy between teacher and student over prototypes, in
bounded memory.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from slim_kernels.prototype_loss.cpu import StreamedPrototypeLoss
from slim_kernels.prototype_loss.sinkhorn import LEAST_TEMPERATURE, sinkhorn_potentials
from slim_kernels.runtime.arguments import (
    check_targets,
    expect_bool,
    expect_constant,
    expect_floating,
    expect_shapes,
)
from slim_kernels.runtime.dispatch import uses_triton
from slim_kernels.runtime.target import runs_on_gpu

__all__ = ["LOGITS_BUDGET", "prototype_loss", "sinkhorn_potentials"]

LOGITS_BUDGET = 16 << 30
"""Bytes that a teacher's logits may take on a GPU where a call does not say: room for the recipe's
107,520 rows x 65,536 prototypes, 13.2 GiB.
"""


def prototype_loss(
    student: Tensor,
    student_prototypes: Tensor,
    teacher: Tensor,
    teacher_prototypes: Tensor,
    *,
    target: Tensor | None = None,
    weight: Tensor | None = None,
    valid: Tensor | None = None,
    student_temp: float,
    teacher_temp: float,
    sinkhorn_iterations: int = 3,
    potentials: Tensor | None = None,
    group: dist.ProcessGroup | None = None,
    logits_budget: int | None = None,
) -> Tensor:
    """Σ_i w_i · cross-entropy(teacher assignment, student distribution) over K prototypes (paper
    section 3.3).

    The teacher's logits are balanced by Sinkhorn-Knopp over all its rows (and all ranks of
    `group`).

    Args:
        student: (S, D) unit rows; gets a gradient.
        student_prototypes: (K, D) unit rows; get a gradient.
        teacher, teacher_prototypes: (N, D) and (K, D) unit rows; constants, whose gradient stops
            here.
        target: int64 (S,), the teacher row that each student row is compared with, or (S, R): R
            rows whose
            cross-entropies are averaged. None: row i with row i, which needs S = N.
        weight: (S,) weight of each student row (None: ones); gets a gradient if it wants one, but
            from the Triton kernels, which refuse it.
        valid: (N,) bool, teacher rows that count (None: all). The others are padding:
            Sinkhorn-Knopp passes them over,
            and the student rows that look at them need weight 0 (without `target` they get it).
        student_temp, teacher_temp: temperatures, at least 0.004.
        sinkhorn_iterations: at least 1.
        potentials: (K,) of `sinkhorn_potentials`, where `teacher` is a part of the rows that are
            balanced; None: they are found here.
        logits_budget: bytes that the teacher's logits, 2 · N · K, may take on a GPU; None:
            LOGITS_BUDGET. Within it they are stored, in float16, which is predicted to be faster;
            beyond it (0: always) every pass multiplies anew. Elsewhere it changes nothing.

    Returns: a scalar in float32 (float64 for float64 students); 0 with zero gradients when S = 0.
    Raises: ValueError for shapes, devices, targets, temperatures or a budget that do not fit, and
        for a temperature (with the Triton kernels also a weight) that requires a gradient, naming
        the argument.
    On a GPU the Triton kernels multiply in float16, whatever the dtype of the rows, and sum in
    float32.
    Memory: O(N + S + K) times D, plus on a GPU, where the teacher's logits are stored, these and
    1 GiB of the student's; elsewhere a few chunks of logits of fixed size, and up to KEPT_LOGITS of
    the teacher's exponentials, whatever N and K.
    """
    s, n = len(student), len(teacher)
    if (
        student_prototypes.shape != teacher_prototypes.shape
        or student.shape[1:] != teacher.shape[1:]
    ):
        raise ValueError(
            "student and teacher need the same width and the same number of prototypes; got "
            f"features {tuple(student.shape)} and {tuple(teacher.shape)}, prototypes "
            f"{tuple(student_prototypes.shape)} and {tuple(teacher_prototypes.shape)}"
        )
    if target is None and s != n:
        raise ValueError(
            f"without `target` every student row needs its own teacher row; got {s} and {n} rows"
        )
    if target is not None:
        if (
            target.dtype != torch.int64
            or target.dim() not in (1, 2)
            or len(target) != s
            or target.shape[1:] == (0,)
        ):
            raise ValueError(
                f"target must be int64 ({s},) or ({s}, R); got {target.dtype} {tuple(target.shape)}"
            )
        target = target[:, None] if target.dim() == 1 else target
    k, d = student_prototypes.shape
    if k < 1:
        raise ValueError("prototype_loss: student_prototypes must hold at least one prototype")
    expect_floating(
        "prototype_loss",
        student=student,
        student_prototypes=student_prototypes,
        teacher=teacher,
        teacher_prototypes=teacher_prototypes,
    )
    expect_constant(
        "prototype_loss",
        student_temp=student_temp,
        teacher_temp=teacher_temp,
        potentials=potentials,
    )
    expect_bool("prototype_loss", valid=valid)
    expect_shapes(
        "prototype_loss",
        student=(student, (s, d)),
        student_prototypes=(student_prototypes, (k, d)),
        teacher=(teacher, (n, d)),
        teacher_prototypes=(teacher_prototypes, (k, d)),
        target=(target, () if target is None else tuple(target.shape)),
        weight=(weight, (s,)),
        valid=(valid, (n,)),
        potentials=(potentials, (k,)),
    )
    if target is not None:
        check_targets(target, n)
    for name, temperature in (("student_temp", student_temp), ("teacher_temp", teacher_temp)):
        if not temperature >= LEAST_TEMPERATURE:
            raise ValueError(f"{name} is {temperature}; it must be at least {LEAST_TEMPERATURE}")
    if logits_budget is not None and logits_budget < 0:
        raise ValueError(f"logits_budget is {logits_budget}; it must not be negative")
    if sinkhorn_iterations < 1:
        raise ValueError(f"sinkhorn_iterations is {sinkhorn_iterations}; it must be at least 1")
    if weight is None:
        weight = student.new_ones(s)
    if valid is not None and target is None:
        weight = weight * valid
    dtype = (
        torch.float16 if runs_on_gpu(student) else torch.promote_types(student.dtype, torch.float32)
    )
    obstacle = (
        f"features of {student.shape[1]} numbers, more than 256" if student.shape[1] > 256 else ""
    )
    if runs_on_gpu(student) and student.dtype == torch.float64:
        obstacle = "float64 features"
    if uses_triton("prototype_loss", student, dtype, obstacle):
        from slim_kernels.prototype_loss import triton  # only where triton is installed

        expect_constant("prototype_loss", weight=weight)
        loss, _, _ = triton.prototype_loss(
            student,
            student_prototypes,
            teacher,
            teacher_prototypes,
            target,
            weight,
            valid,
            student_temp,
            teacher_temp,
            sinkhorn_iterations,
            None if group is None else group.group_name,
            LOGITS_BUDGET if logits_budget is None else logits_budget,
            student.requires_grad and torch.is_grad_enabled(),
            student_prototypes.requires_grad and torch.is_grad_enabled(),
            potentials,
        )
        return loss
    with torch.autocast(student.device.type, enabled=False):
        loss = StreamedPrototypeLoss.apply(
            student,
            student_prototypes,
            teacher,
            teacher_prototypes,
            target,
            weight,
            valid,
            student_temp,
            teacher_temp,
            sinkhorn_iterations,
            group,
            potentials,
        )
    return loss
