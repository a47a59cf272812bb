"""The loss by the Triton kernels, its logits stored or not, and by the streamed path."""

from functools import partial

import torch
from slim_kernels import prototype_loss
from slim_kernels.prototype_loss import triton as prototype_triton
from torch import Tensor

ALL, NONE = 1 << 40, 0
"""Budgets: every logit is stored, and none."""


def kernels(
    student,
    prototypes,
    teacher,
    teacher_prototypes,
    target=None,
    weight=None,
    valid=None,
    iterations=3,
    budget=NONE,
):
    if weight is None:
        weight = torch.ones(len(student), dtype=student.dtype)
    return prototype_triton.prototype_loss(
        student,
        prototypes,
        teacher,
        teacher_prototypes,
        target,
        weight,
        valid,
        0.1,
        0.04,
        iterations,
        None,
        budget,
        True,
        True,
    )[0]


stored = partial(kernels, budget=ALL)


def streamed(
    student,
    prototypes,
    teacher,
    teacher_prototypes,
    target=None,
    weight=None,
    valid=None,
    iterations=3,
):
    return prototype_loss(
        student,
        prototypes,
        teacher,
        teacher_prototypes,
        target=target,
        weight=weight,
        valid=valid,
        student_temp=0.1,
        teacher_temp=0.04,
        sinkhorn_iterations=iterations,
    )


def assert_alike(tolerance: float, *inputs: Tensor, **options) -> None:
    budget = options.pop("budget", NONE)
    got, want = kernels(*inputs, budget=budget, **options), streamed(*inputs, **options)
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(
        *(torch.autograd.grad(loss, inputs[:2]) for loss in (got, want)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
