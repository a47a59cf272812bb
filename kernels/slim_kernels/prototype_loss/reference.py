"""The loss with every logit in memory, as the paper defines it: the specification, and the tests'
oracle.
"""

import math

import torch
from torch import Tensor


def sinkhorn_assignment(
    teacher: Tensor, prototypes: Tensor, temperature: float, iterations: int
) -> Tensor:
    """The teacher's balanced assignment (N, K), whose rows sum to 1 (paper section 3.3).

    Columns are brought to 1 / K, then rows to 1 / N, `iterations` times.
    """
    log = teacher @ prototypes.t() / temperature
    for _ in range(iterations):
        log = log - log.logsumexp(0, keepdim=True) - math.log(log.shape[1])
        log = log - log.logsumexp(1, keepdim=True) - math.log(log.shape[0])
    return log.exp() * len(teacher)


def prototype_loss(
    student: Tensor,
    student_prototypes: Tensor,
    teacher: Tensor,
    teacher_prototypes: Tensor,
    target: Tensor | None,
    weight: Tensor | None,
    student_temp: float,
    teacher_temp: float,
    iterations: int,
) -> Tensor:
    """Σ_i w_i · mean over a row's targets n of -Σ_k t_nk log p_ik, a scalar."""
    targets = sinkhorn_assignment(teacher, teacher_prototypes, teacher_temp, iterations)
    log_p = (student @ student_prototypes.t() / student_temp).log_softmax(1)
    total = student.new_zeros(())
    for i in range(len(student)):
        rows = [i] if target is None else target[i].flatten().tolist()
        entropy = torch.stack([-(targets[n] * log_p[i]).sum() for n in rows]).sum() / len(rows)
        total = total + (1.0 if weight is None else weight[i]) * entropy
    return total
