"""prototype_loss without logits in memory: every pass multiplies anew."""

import torch

from slim_kernels.prototype_loss.triton_inputs import Inputs, Result, potentials, pull, scaled
from slim_kernels.prototype_loss.triton_passes import attend, log_sum_exp


def streamed_loss(inputs: Inputs) -> Result:
    """The loss and its gradients."""
    e, c, x, d, wide = inputs.e, inputs.c, inputs.x, inputs.d, inputs.wide
    dtype, target, start = inputs.dtype, inputs.target, inputs.start
    student_temp, teacher_temp = inputs.student_temp, inputs.teacher_temp
    a = potentials(
        inputs,
        lambda b: log_sum_exp(d, x, b, teacher_temp, dtype),
        lambda a: log_sum_exp(x, d, a, teacher_temp, dtype),
    )
    y, teacher_lse = attend(x, d, c, a, teacher_temp, dtype)
    y_student = y if target is None else y[target].mean(1)
    student_grad, prototype_grad = wide.new_empty(0), wide.new_empty(0)
    if inputs.need_student:
        expected, student_lse = attend(e, c, c, None, student_temp, dtype)
        student_grad = (inputs.weight / student_temp)[:, None] * (expected - y_student)
    else:
        student_lse = log_sum_exp(e, c, None, student_temp, dtype)
    each = student_lse - (wide * y_student).sum(1) / student_temp
    if inputs.need_prototypes:
        values, scale = scaled(inputs.weighted)
        mean, lse = attend(c, e, values, -student_lse, student_temp, dtype)
        push = mean * (lse.exp() * scale)[:, None]
        values, scale = scaled(pull(inputs))
        bias = -teacher_lse if start is None else start - teacher_lse
        mean, lse = attend(d, x, values, bias, teacher_temp, dtype)
        prototype_grad = push - mean * ((lse + a).exp() * scale)[:, None]
    return torch.dot(inputs.weight, each), student_grad, prototype_grad
