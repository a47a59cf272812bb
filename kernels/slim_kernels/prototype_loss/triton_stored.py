"""prototype_loss with the teacher's logits in memory: few products, and sweeps over their results.

The teacher's matrix (N, K) holds cosines until Sinkhorn-Knopp is done, and probabilities from then
on, in place; the student's is in memory for some rows at a time.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from slim_kernels.prototype_loss.triton_inputs import Inputs, Result, potentials, pull, scaled
from slim_kernels.prototype_loss.triton_passes import lse_of_columns, lse_of_rows, to_probabilities
from slim_kernels.prototype_loss.triton_sweeps import GROUP, SCALE
from slim_kernels.runtime.target import runs_on_gpu

# Bytes of student logits in memory at once: few launches, and little beside the teacher's matrix.
CHUNK_BYTES = 1 << 30


def stored_bytes(rows: int, prototypes: int, size: int) -> int:
    """Bytes of the teacher's matrix of `rows`, a number having `size`."""
    return rows * -(-prototypes // GROUP) * GROUP * size


def stored_loss(inputs: Inputs) -> Result:
    """The loss and its gradients."""
    c, d = _whole_groups(inputs.c), _whole_groups(inputs.d)
    count, temperature, dtype = len(inputs.d), inputs.teacher_temp, inputs.dtype
    logits = torch.mm(inputs.x, d.t())
    a = potentials(
        inputs,
        lambda b: lse_of_columns(logits, count, b, temperature, dtype),
        lambda a: lse_of_rows(logits, count, a, temperature, dtype),
    )
    lse = lse_of_rows(logits, count, a, temperature, dtype)
    finish = _paired if inputs.target is None else _with_targets
    each, student_grad, prototype_grad = finish(inputs, logits, a, lse, c)
    return torch.dot(inputs.weight, each), student_grad, prototype_grad[:count]


def _paired(inputs: Inputs, logits: Tensor, a: Tensor, lse: Tensor, c: Tensor) -> Result:
    """Row i looks at row i: t - p is formed once, so two products fewer than apart."""
    count, dtype = len(a), inputs.dtype
    each = torch.empty_like(inputs.weight)
    for rows, scores in _student_logits(inputs, c):
        student_lse = lse_of_rows(scores, count, None, inputs.student_temp, dtype)
        expected = to_probabilities(
            *(logits[rows], count, a, lse[rows], inputs.teacher_temp),
            other=(scores, student_lse, inputs.student_temp),
        )
        each[rows] = student_lse - expected
    student_grad, prototype_grad = inputs.wide.new_empty(0), inputs.wide.new_empty(0)
    if inputs.need_student:
        weight = inputs.weight / (-SCALE.value * inputs.student_temp)
        student_grad = _product(logits, c, dtype) * weight[:, None]
    if inputs.need_prototypes:
        values, scale = scaled(inputs.weighted)
        prototype_grad = _product(logits.t(), values, dtype) * (scale / -SCALE.value)
    return each, student_grad, prototype_grad


def _with_targets(inputs: Inputs, logits: Tensor, a: Tensor, lse: Tensor, c: Tensor) -> Result:
    """Student rows look at teacher rows of their choice."""
    assert inputs.target is not None
    count, dtype, student_temp = len(a), inputs.dtype, inputs.student_temp
    to_probabilities(logits, count, a, lse, inputs.teacher_temp)
    y = (_product(logits, c, dtype) / SCALE.value)[inputs.target].mean(1)
    each = torch.empty_like(inputs.weight)
    student_grad, prototype_grad = inputs.wide.new_empty(0), inputs.wide.new_empty(0)
    if inputs.need_student:
        student_grad = torch.empty_like(inputs.wide)
    if inputs.need_prototypes:
        values, scale = scaled(pull(inputs))
        prototype_grad = _product(logits.t(), values, dtype) * (scale / -SCALE.value)
        values, scale = scaled(inputs.weighted)
    for rows, scores in _student_logits(inputs, c):
        each[rows] = lse_of_rows(scores, count, None, student_temp, dtype)
        if inputs.need_student or inputs.need_prototypes:
            to_probabilities(scores, count, None, each[rows], student_temp)
        if inputs.need_student:
            student_grad[rows] = _product(scores, c, dtype) / SCALE.value
        if inputs.need_prototypes:
            prototype_grad += _product(scores.t(), values[rows], dtype) * (scale / SCALE.value)
    if inputs.need_student:
        student_grad = (inputs.weight / student_temp)[:, None] * (student_grad - y)
    return each - (inputs.wide * y).sum(1) / student_temp, student_grad, prototype_grad


def _student_logits(inputs: Inputs, c: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Chunks of rows and their cosines, which the next chunk overwrites."""
    size = max(1, CHUNK_BYTES // (len(c) * c.element_size()))
    scores = c.new_empty(min(size, len(inputs.e)), len(c))
    for begin in range(0, len(inputs.e), size):
        rows = slice(begin, min(begin + size, len(inputs.e)))
        part = scores[: rows.stop - begin]
        yield rows, torch.mm(inputs.e[rows], c.t(), out=part)


def _whole_groups(prototypes: Tensor) -> Tensor:
    """With rows of zeros to a multiple of GROUP, so that each row of logits begins aligned."""
    missing = -len(prototypes) % GROUP
    return F.pad(prototypes, (0, 0, 0, missing)) if missing else prototypes


def _product(x: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
    """x y in `dtype`, in which it is summed."""
    if x.dtype == dtype:
        return torch.mm(x, y)
    if runs_on_gpu(x):
        return torch.mm(x, y, out_dtype=dtype)
    return torch.mm(x.to(dtype), y.to(dtype))  # PyTorch has no such product on a CPU
