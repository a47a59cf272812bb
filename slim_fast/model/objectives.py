"""SLiM's three losses (paper sections 3.3 and 3.4), from features to scalars."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from slim_kernels import prototype_loss
from torch import Tensor

from slim_fast.model.heads import PrototypeHead

STUDENT_TEMPERATURE = 0.1


def contrastive_loss(
    student: list[Tensor],
    teacher: Tensor,
    head: PrototypeHead,
    teacher_head: PrototypeHead,
    teacher_temp: float,
    potentials: Tensor | None = None,
    group: dist.ProcessGroup | None = None,
    sharpness: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of every student view with the teacher's other global views (paper's L_GLCL).

    student: CLS features per view group (B, n, D), the two global views first; teacher: (B, 2, D).
    The 2 global-global and 2 × locals local-global terms, each a mean over the batch, are averaged
    over all terms (18 in the recipe). potentials, group: those of `prototype_loss`; sharpness: of
    `sharpen`.
    """
    batch = len(teacher)
    device = teacher.device
    locals_ = sum(group.shape[1] for group in student[1:])
    terms = 2 + 2 * locals_
    # the teacher's row of (clip, global view)
    own = torch.arange(2 * batch, device=device).view(batch, 2)
    targets = [own.flip(1).flatten()[:, None].expand(-1, 2)]  # A is compared with B and B with A
    targets += [own[:, None].expand(-1, group.shape[1], -1).flatten(0, 1) for group in student[1:]]
    weight = torch.full((len(student[0]) * (2 + locals_),), 2 / (terms * batch), device=device)
    weight[: 2 * batch] = 1 / (terms * batch)
    return prototype_loss(
        head(torch.cat([group.flatten(0, 1) for group in student])),
        head.unit_prototypes(),
        sharpen(teacher_head(teacher.flatten(0, 1)), sharpness),
        teacher_head.unit_prototypes(),
        target=torch.cat(targets),
        weight=weight,
        student_temp=STUDENT_TEMPERATURE,
        teacher_temp=teacher_temp,
        potentials=potentials,
        group=group,
    )


def masked_feature_loss(
    student: Tensor,
    teacher: Tensor,
    weight: Tensor,
    real: Tensor | None,
    head: PrototypeHead,
    teacher_head: PrototypeHead,
    teacher_temp: float,
    potentials: Tensor | None = None,
    group: dist.ProcessGroup | None = None,
    sharpness: Tensor | None = None,
) -> Tensor:
    """Masked feature modelling: cross-entropy at the masked positions of the masked global views.

    student, teacher: (R, D) features of the same positions; weight (R,): 1 / (masked positions of
    the view) / (2 B); real (R,) bool: which rows count, None: all. potentials, group: those of
    `prototype_loss`; sharpness: of `sharpen`.
    """
    return prototype_loss(
        head(student),
        head.unit_prototypes(),
        sharpen(teacher_head(teacher), sharpness),
        teacher_head.unit_prototypes(),
        weight=weight,
        valid=real,
        student_temp=STUDENT_TEMPERATURE,
        teacher_temp=teacher_temp,
        potentials=potentials,
        group=group,
    )


def sharpen(rows: Tensor, sharpness: Tensor | None) -> Tensor:
    """The teacher's unit rows times a scalar on their device: a lower temperature by that factor,
    which the host need not know. None: as they are.
    """
    return rows if sharpness is None else rows * sharpness


def koleo(features: Tensor, nearest: Tensor | None = None) -> Tensor:
    """Kozachenko-Leonenko regulariser (Sablayrolles et al. 2019): −mean log(distance + 1e-6).

    features: (B, D); normalised here, in at least float32. A single row has no neighbour: 0.
    nearest: int64 (B,), each row's nearest other one; None: it is searched.
    """
    if len(features) < 2:
        return features.sum() * 0.0
    with torch.autocast(features.device.type, enabled=False):
        x = F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)
        if nearest is None:
            nearest = _search(x.detach(), 0, len(x))
        return -((x - x[nearest]).norm(dim=-1) + 1e-6).log().mean()


@torch.no_grad()
def nearest_rows(features: Tensor, first: int, count: int) -> Tensor:
    """int64 (count,): of `count` rows of features (B, D) from `first` on, the nearest other rows of
    all, as `koleo` finds them.
    """
    with torch.autocast(features.device.type, enabled=False):
        x = F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)
        return _search(x, first, count)


def _search(x: Tensor, first: int, count: int) -> Tensor:
    similarities = x[first : first + count] @ x.t()
    similarities.diagonal(first).fill_(-2)
    return similarities.argmax(1)


def koleo_of_part(features: Tensor, batch: Tensor, first: int, nearest: Tensor) -> Tensor:
    """`koleo` of a whole batch (N, D), with the gradient of its rows `features` (B, D) from `first`
    on, times N / B because parts are averaged. nearest: int64 (N,), of the whole batch.
    """
    parts, end = len(batch) // len(features), first + len(features)
    # values of the batch alone: of a clip that is in it twice, the distance must stay exactly 0
    own = batch[first:end] + (features - features.detach())
    whole = koleo(torch.cat([batch[:first], own, batch[end:]]), nearest)
    return parts * whole - (parts - 1) * whole.detach()
