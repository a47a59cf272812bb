"""The feature-reconstruction loss: cross-entropy between teacher and student over prototypes, in
bounded memory.

Notation (one row i of the student, its teacher row n(i), prototypes c of the student and d of the
teacher):
    s_ik = e_i · c_k / τ_s          student logits, p_i = softmax(s_i)
    t_nk = exp(x_n · d_k / τ_t) u_k / Σ_k …   the teacher's assignment, u from Sinkhorn-Knopp
    y_n  = Σ_k t_nk c_k
    loss = Σ_i w_i (logsumexp_k s_ik − e_i · y_n(i) / τ_s)
    ∂/∂e_i = w_i (Σ_k p_ik c_k − y_n(i)) / τ_s
    ∂/∂c_k = Σ_i w_i (p_ik − t_n(i)k) e_i / τ_s
    ∂/∂w_i = logsumexp_k s_ik − e_i · y_n(i) / τ_s
Everything, gradients included, comes out of one pass over chunks of teacher rows and one over
chunks of student rows.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from slim_kernels.prototype_loss.sinkhorn import ExpLogits, computing_dtype, sinkhorn_scaling
from slim_kernels.runtime.matmul import add_matmul, matmul


def _teacher_pass(
    teacher: ExpLogits,
    scale: Tensor,
    prototypes: Tensor,
    pull: Tensor | None,
    prototype_grad: Tensor | None,
) -> Tensor:
    """y (N, D); adds -Σ_n t_nk pull_n to prototype_grad (K, D), where pull_n sums the student rows
    that look at n.
    """
    y = torch.empty_like(teacher.rows)
    for rows, kernel in teacher:
        assignment = kernel.mul_(scale)
        total = assignment.sum(1, keepdim=True)
        y[rows] = matmul(assignment, prototypes) / total
        if prototype_grad is not None and pull is not None:
            torch.addmm(
                prototype_grad, assignment.t(), pull[rows] / total, alpha=-1, out=prototype_grad
            )
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
    """Each row's loss (S,). Fills student_grad (S, D) and adds Σ_i w_i p_ik e_i / τ to
    prototype_grad (K, D).
    """
    each = torch.empty_like(weight)
    for rows, kernel in ExpLogits(student, prototypes, temperature):
        e, w = student[rows], weight[rows]
        total = kernel.sum(1)
        each[rows] = total.log() - (e * y[rows]).sum(1) / temperature
        if student_grad is not None:
            expected = matmul(kernel, prototypes) / total[:, None]
            student_grad[rows] = (w / temperature)[:, None] * (expected - y[rows])
        if prototype_grad is not None:
            add_matmul(prototype_grad, kernel.t(), e * (w / (temperature * total))[:, None])
    return each


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
    """Both passes in one where row i looks at row i: p - t is formed once, so two matrix products
    fewer than apart.
    """
    each = torch.empty_like(weight)
    for rows, kernel in teacher:
        e, w = student[rows], weight[rows]
        assignment = kernel.mul_(scale)
        target_total = assignment.sum(1)
        logits = matmul(e / temperature, prototypes.t())
        expected = torch.linalg.vecdot(assignment, logits) / target_total  # Σ_k t_ik s_ik
        exponentials = logits.exp_()
        total = exponentials.sum(1)
        each[rows] = total.log() - expected
        # p - t
        difference = exponentials.div_(total[:, None]).addcdiv_(
            assignment, target_total[:, None], value=-1
        )
        if student_grad is not None:
            student_grad[rows] = matmul(difference, prototypes) * (w / temperature)[:, None]
        if prototype_grad is not None:
            add_matmul(prototype_grad, difference.t(), e * (w / temperature)[:, None])
    return each


class StreamedPrototypeLoss(torch.autograd.Function):
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
        potentials: Tensor | None,
    ) -> Tensor:
        need_student, need_prototypes = ctx.needs_input_grad[:2]
        dtype = torch.promote_types(
            computing_dtype(teacher, teacher_temp), computing_dtype(student, student_temp)
        )
        wide = torch.promote_types(student.dtype, torch.float32)
        e, c, x, d, w = (
            v.detach().to(dtype) for v in (student, prototypes, teacher, teacher_prototypes, weight)
        )
        kernel = ExpLogits(x, d, teacher_temp, keep=True)
        if potentials is None:
            scale = sinkhorn_scaling(kernel, iterations, group, valid)
        else:
            scale = potentials.to(dtype).exp()
        student_grad = torch.empty_like(e) if need_student else None
        prototype_grad = torch.zeros_like(c) if need_prototypes else None
        if target is None:
            each = _paired_pass(e, c, kernel, scale, w, student_temp, student_grad, prototype_grad)
        else:
            pull = None
            if need_prototypes:
                pull = torch.zeros_like(x)
                weighted = e * (w / (student_temp * target.shape[1]))[:, None]
                for column in target.unbind(1):
                    pull.index_add_(0, column, weighted)
            y = _teacher_pass(kernel, scale, c, pull, prototype_grad)[target].mean(1)
            each = _student_pass(e, c, y, w, student_temp, student_grad, prototype_grad)
        ctx.dtypes = student.dtype, prototypes.dtype, weight.dtype
        grads = student_grad, prototype_grad, each if ctx.needs_input_grad[5] else None
        ctx.save_for_backward(*(None if g is None else g.to(wide) for g in grads))
        return torch.dot(w, each).to(wide)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        grad_loss = grad_outputs[0]
        pairs = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        student, prototypes, weight = (
            None if g is None else (g * grad_loss).to(dtype) for g, dtype in pairs
        )
        return student, prototypes, None, None, None, weight, *[None] * 6
