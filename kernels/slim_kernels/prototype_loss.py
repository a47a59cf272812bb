"""The feature-reconstruction loss: cross-entropy between teacher and student over prototypes, in bounded memory.

Notation (one row i of the student, its teacher row n(i), prototypes c of the student and d of the teacher):
    s_ik = e_i · c_k / τ_s          student logits, p_i = softmax(s_i)
    t_nk = exp(x_n · d_k / τ_t) u_k / Σ_k …   the teacher's assignment, u from Sinkhorn-Knopp
    y_n  = Σ_k t_nk c_k
    loss = Σ_i w_i (logsumexp_k s_ik − e_i · y_n(i) / τ_s)
    ∂/∂e_i = w_i (Σ_k p_ik c_k − y_n(i)) / τ_s
    ∂/∂c_k = Σ_i w_i (p_ik − t_n(i)k) e_i / τ_s
Everything, gradients included, comes out of one pass over chunks of teacher rows and one over chunks of student rows.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from slim_kernels.checks import check_targets, expect_bool, expect_floating, expect_shapes
from slim_kernels.dispatch import triton_wanted
from slim_kernels.products import add_product, product
from slim_kernels.sinkhorn import LEAST_TEMPERATURE, ExpLogits, computing_dtype, sinkhorn_scaling


def _teacher_pass(
    teacher: ExpLogits, scale: Tensor, prototypes: Tensor, pull: Tensor | None, prototype_grad: Tensor | None
) -> Tensor:
    """y (N, D); adds -Σ_n t_nk pull_n to prototype_grad (K, D), where pull_n sums the student rows that look at n."""
    y = torch.empty_like(teacher.rows)
    for rows, kernel in teacher:
        assignment = kernel.mul_(scale)
        total = assignment.sum(1, keepdim=True)
        y[rows] = product(assignment, prototypes) / total
        if prototype_grad is not None and pull is not None:
            torch.addmm(prototype_grad, assignment.t(), pull[rows] / total, alpha=-1, out=prototype_grad)
    return y


def _student_pass(
    student: Tensor,
    prototypes: Tensor,
    y: Tensor,
    weight: Tensor,
    temperature: float,
    student_grad: Tensor | None,
    prototype_grad: Tensor | None,
) -> Tensor:
    """The loss; fills student_grad (S, D) and adds Σ_i w_i p_ik e_i / τ to prototype_grad (K, D)."""
    loss = student.new_zeros(())
    for rows, kernel in ExpLogits(student, prototypes, temperature):
        e, w = student[rows], weight[rows]
        total = kernel.sum(1)
        loss += torch.dot(w, total.log() - (e * y[rows]).sum(1) / temperature)
        if student_grad is not None:
            expected = product(kernel, prototypes) / total[:, None]
            student_grad[rows] = (w / temperature)[:, None] * (expected - y[rows])
        if prototype_grad is not None:
            add_product(prototype_grad, kernel.t(), e * (w / (temperature * total))[:, None])
    return loss


def _paired_pass(
    student: Tensor,
    prototypes: Tensor,
    teacher: ExpLogits,
    scale: Tensor,
    weight: Tensor,
    temperature: float,
    student_grad: Tensor | None,
    prototype_grad: Tensor | None,
) -> Tensor:
    """Both passes in one where row i looks at row i: p - t is formed once, so two matrix products fewer than apart."""
    loss = student.new_zeros(())
    for rows, kernel in teacher:
        e, w = student[rows], weight[rows]
        assignment = kernel.mul_(scale)
        target_total = assignment.sum(1)
        logits = product(e / temperature, prototypes.t())
        expected = torch.linalg.vecdot(assignment, logits) / target_total  # Σ_k t_ik s_ik
        share = logits.exp_()
        total = share.sum(1)
        loss += torch.dot(w, total.log() - expected)
        difference = share.div_(total[:, None]).addcdiv_(assignment, target_total[:, None], value=-1)  # p - t
        if student_grad is not None:
            student_grad[rows] = product(difference, prototypes) * (w / temperature)[:, None]
        if prototype_grad is not None:
            add_product(prototype_grad, difference.t(), e * (w / temperature)[:, None])
    return loss


class _PrototypeLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        prototypes: Tensor,
        teacher: Tensor,
        teacher_prototypes: Tensor,
        target: Tensor | None,
        weight: Tensor,
        valid: Tensor | None,
        student_temp: float,
        teacher_temp: float,
        iterations: int,
        group: dist.ProcessGroup | None,
    ) -> Tensor:
        need_student, need_prototypes = ctx.needs_input_grad[:2]
        dtype = torch.promote_types(computing_dtype(teacher, teacher_temp), computing_dtype(student, student_temp))
        wide = torch.promote_types(student.dtype, torch.float32)
        e, c, x, d, w = (v.detach().to(dtype) for v in (student, prototypes, teacher, teacher_prototypes, weight))
        kernel = ExpLogits(x, d, teacher_temp, keep=True)
        scale = sinkhorn_scaling(kernel, iterations, group, valid)
        student_grad = torch.empty_like(e) if need_student else None
        prototype_grad = torch.zeros_like(c) if need_prototypes else None
        if target is None:
            loss = _paired_pass(e, c, kernel, scale, w, student_temp, student_grad, prototype_grad)
        else:
            pull = None
            if need_prototypes:
                pull = torch.zeros_like(x)
                share = e * (w / (student_temp * target.shape[1]))[:, None]
                for column in target.unbind(1):
                    pull.index_add_(0, column, share)
            y = _teacher_pass(kernel, scale, c, pull, prototype_grad)[target].mean(1)
            loss = _student_pass(e, c, y, w, student_temp, student_grad, prototype_grad)
        ctx.dtypes = student.dtype, prototypes.dtype
        ctx.save_for_backward(*(None if g is None else g.to(wide) for g in (student_grad, prototype_grad)))
        return loss.to(wide)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grad_loss = grad_outputs[0]
        pairs = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        grads = [None if g is None else (g * grad_loss).to(dtype) for g, dtype in pairs]
        return (*grads, *[None] * 9)


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
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """Σ_i w_i · cross-entropy(teacher assignment, student distribution) over K prototypes (paper section 3.3).

    The teacher's logits are balanced by Sinkhorn-Knopp over all its rows (and all ranks of `group`).

    Args:
        student: (S, D) unit rows; gets a gradient.
        student_prototypes: (K, D) unit rows; get a gradient.
        teacher, teacher_prototypes: (N, D) and (K, D) unit rows; constants.
        target: int64 (S,), the teacher row that each student row is compared with, or (S, R): R rows whose
            cross-entropies are averaged. None: row i with row i, which needs S = N.
        weight: (S,) weight of each student row (None: ones).
        valid: (N,) bool, teacher rows that count (None: all). The others are padding: Sinkhorn-Knopp passes them over,
            and the student rows that look at them need weight 0 (without `target` they get it).
        student_temp, teacher_temp: temperatures, at least 0.004.
        sinkhorn_iterations: at least 1.

    Returns: a scalar in float32 (float64 for float64 students); 0 with zero gradients when S = 0.
    Raises: ValueError for shapes, devices, targets or temperatures that do not fit, naming the argument.
    On a GPU the Triton kernels multiply in float16, whatever the dtype of the rows, and sum in float32.
    Memory: O(N + S + K) times D, a few chunks of logits of fixed size, and up to KEPT_LOGITS of the teacher's
    exponentials, whatever N and K.
    """
    s, n = len(student), len(teacher)
    if student_prototypes.shape != teacher_prototypes.shape or student.shape[1:] != teacher.shape[1:]:
        raise ValueError(
            "student and teacher need the same width and the same number of prototypes; got features "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}, prototypes {tuple(student_prototypes.shape)} "
            f"and {tuple(teacher_prototypes.shape)}"
        )
    if target is None and s != n:
        raise ValueError(f"without `target` every student row needs its own teacher row; got {s} and {n} rows")
    if target is not None:
        if target.dtype != torch.int64 or target.dim() not in (1, 2) or len(target) != s or target.shape[1:] == (0,):
            raise ValueError(f"target must be int64 ({s},) or ({s}, R); got {target.dtype} {tuple(target.shape)}")
        target = target[:, None] if target.dim() == 1 else target
    k, d = student_prototypes.shape
    if k < 1:
        raise ValueError("prototype_loss: student_prototypes must hold at least one prototype")
    expect_floating(
        "prototype_loss", student=student, student_prototypes=student_prototypes, teacher=teacher,
        teacher_prototypes=teacher_prototypes,
    )  # fmt: skip
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
    )
    if target is not None:
        check_targets(target, n)
    for name, temperature in (("student_temp", student_temp), ("teacher_temp", teacher_temp)):
        if not temperature >= LEAST_TEMPERATURE:
            raise ValueError(f"{name} is {temperature}; it must be at least {LEAST_TEMPERATURE}")
    if sinkhorn_iterations < 1:
        raise ValueError(f"sinkhorn_iterations is {sinkhorn_iterations}; it must be at least 1")
    if weight is None:
        weight = student.new_ones(s)
    if valid is not None and target is None:
        weight = weight * valid
    dtype = torch.float16 if student.device.type == "cuda" else torch.promote_types(student.dtype, torch.float32)
    obstacle = f"features of {student.shape[1]} numbers, more than 256" if student.shape[1] > 256 else ""
    if student.device.type == "cuda" and student.dtype == torch.float64:
        obstacle = "float64 features"
    if triton_wanted("prototype_loss", student, dtype, obstacle):
        from slim_kernels import prototype_triton  # only where triton is installed

        loss, _, _ = prototype_triton.prototype_loss(
            student, student_prototypes, teacher, teacher_prototypes, target, weight, valid, student_temp, teacher_temp,
            sinkhorn_iterations, None if group is None else group.group_name,
            student.requires_grad and torch.is_grad_enabled(),
            student_prototypes.requires_grad and torch.is_grad_enabled(),
        )  # fmt: skip
        return loss
    with torch.autocast(student.device.type, enabled=False):
        loss = _PrototypeLoss.apply(
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
        )
    return loss
