"""Rows and the float64 reference that the tests of the loss share."""

import torch
import torch.nn.functional as F
from slim_kernels.prototype_loss import reference
from torch import Tensor


def unit(rows: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return F.normalize(torch.randn(rows, width, dtype=torch.float64), dim=-1).to(dtype)


def materialised(
    student: Tensor,
    prototypes: Tensor,
    teacher: Tensor,
    teacher_prototypes: Tensor,
    target: Tensor | None,
    weight: Tensor | None,
    *settings: float,
) -> Tensor:
    """The reference in float64."""
    rows = (v.double() for v in (student, prototypes, teacher, teacher_prototypes))
    wide = None if weight is None else weight.double()
    return reference.prototype_loss(*rows, target, wide, *settings)


def assignment(teacher: Tensor, prototypes: Tensor, *settings: float) -> Tensor:
    return reference.sinkhorn_assignment(teacher.double(), prototypes.double(), *settings)


def values_and_gradients(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss, inputs)]
