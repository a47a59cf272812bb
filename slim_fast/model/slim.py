"""Student, EMA teacher and the objective of one step (paper section 3).

`SLiM.forward` in five steps: find the masked tokens, encode all views by the student, encode the
global ones by the teacher, compare, sum up.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from slim_kernels import sinkhorn_potentials
from torch import Tensor, nn

from slim_fast.errors import UserError
from slim_fast.limits import NonNegative
from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.model.heads import HeadConfig, PrototypeHead
from slim_fast.model.method import Method, Schedules
from slim_fast.model.objectives import (
    contrastive_loss,
    koleo,
    koleo_of_part,
    masked_feature_loss,
    sharpen,
)
from slim_fast.model.packing import MaskedTokens, SortedViews, find_masked_tokens, sort_views
from slim_fast.model.parts import BatchPart, concatenate, rank_of, share_cls
from slim_fast.model.ranges import LOSS, step_part
from slim_fast.views.pipeline import ViewBatch


@dataclass
class LossConfig:
    """Weights of the objective's terms; a weight of 0 leaves the term out."""

    contrastive: NonNegative = 1.0
    """Global-local contrastive loss (global-global only when there are no local views)."""
    masked: NonNegative = 1.0
    """Masked feature modelling."""
    koleo: NonNegative = 0.1
    """KoLeo regulariser on the student's global CLS."""

    def __post_init__(self) -> None:
        if not self.contrastive and not self.masked:
            raise UserError("model.loss: contrastive or masked needs a weight above 0.")


@dataclass
class ModelConfig:
    """The encoder, its heads and the objective."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The encoder."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """Both prototype heads."""
    loss: LossConfig = field(default_factory=LossConfig)
    """The objective."""


class Network(nn.Module):
    """Encoder and both prototype heads: what the student trains and the teacher averages."""

    def __init__(self, config: ModelConfig, joints: int, channels: int) -> None:
        super().__init__()
        self.encoder = Encoder(config.encoder, joints, channels)
        self.contrastive_head = PrototypeHead(config.encoder.width, config.head)
        self.masked_head = PrototypeHead(config.encoder.width, config.head)


class Features(NamedTuple):
    """What the losses need of an encoder's output."""

    cls: list[Tensor]
    """(B, n, D) of each group of views, the global ones first."""
    patches: Tensor
    """(R, D) of the masked tokens of the global views."""


def encode(
    encoder: Encoder,
    views: SortedViews,
    masks: Sequence[Tensor | None],
    masked: MaskedTokens | None,
) -> Features:
    """Encode the first len(masks) groups of views, all in one packed pass (paper section 3.1)."""
    clips = views.clips[: len(masks)]
    # No loss reads the masked tokens of local views: attention to visible tokens drops them.
    drop = [number > 0 and not views.fixed_shapes for number in range(len(clips))]
    packed = encoder.pack(clips, masks, drop)
    chosen = [masked.indices if masked else None, *[None] * (len(clips) - 1)]
    selection = packed.select(chosen)
    features, _ = encoder.encode_packed(clips, masks, packed, selection)
    cls, patches = selection.split(features)
    groups = cls.split([len(group) for group in clips])
    return Features([views.restore(x, number) for number, x in enumerate(groups)], patches)


class SLiM(Method):
    """Student and teacher with the step's objective; the teacher's encoder is what is used."""

    encoder_name = "teacher.encoder"
    follows = ("teacher_momentum", "teacher_temperature", "prototypes_frozen")

    def __init__(self, config: ModelConfig, joints: int, channels: int) -> None:
        super().__init__()
        self.config = config
        self.student = Network(config, joints, channels)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    @property
    def trained(self) -> Network:
        """The student."""
        return self.student

    def losses(
        self, views: ViewBatch, now: Schedules, part: BatchPart | None = None
    ) -> dict[str, Tensor]:
        """See `forward`."""
        return self(views, now.teacher_temperature, part=part, sharpness=now.teacher_sharpness)

    def before_update(self, now: Schedules) -> None:
        """Leave the prototypes as they are while they are frozen."""
        if now.prototypes_frozen:
            for head in (self.student.contrastive_head, self.student.masked_head):
                head.prototypes.grad = None

    def after_update(self, now: Schedules) -> None:
        """Let the teacher follow the student."""
        self._follow(now.teacher_share)

    @torch.no_grad()
    def survey(self, parts: Sequence[ViewBatch], now: Schedules) -> list[BatchPart] | list[None]:
        """The teacher's features and Sinkhorn-Knopp over all of them; for KoLeo, the student's CLS
        of all global views, which are encoded once more with their gradient.

        A single part needs none of it: what processes share, they share within `forward`.
        """
        if len(parts) == 1:
            return [None]
        loss, temperature, group = self.config.loss, now.teacher_temperature, self.group
        teachers, rows, cls = [], [], []
        for views in parts:
            sorted_views, masked = self.arrange(views)
            teachers.append(self.encode_teacher(sorted_views, masked))
            rows.append(None if masked is None else masked.is_masked)
            if loss.koleo:
                seen = encode(self.student.encoder, sorted_views, sorted_views.masks[:1], None)
                cls.append(seen.cls[0])
        contrastive = masked_ = None
        if loss.contrastive:
            head = self.teacher.contrastive_head
            x = torch.cat([head(teacher.cls[0].flatten(0, 1)) for teacher in teachers])
            x = sharpen(x, now.teacher_sharpness)
            contrastive = sinkhorn_potentials(x, head.unit_prototypes(), temperature, group=group)
        if loss.masked:
            head = self.teacher.masked_head
            x = torch.cat([head(teacher.patches) for teacher in teachers])
            x = sharpen(x, now.teacher_sharpness)
            masked_ = sinkhorn_potentials(
                *(x, head.unit_prototypes(), temperature), group=group, valid=concatenate(rows)
            )
        whole, nearest = share_cls(torch.cat(cls), group) if cls else (None, None)
        first = [(rank_of(group) * len(parts) + n) * len(parts[0].clip) for n in range(len(parts))]
        return [
            BatchPart(teacher, contrastive, masked_, whole, nearest, n)
            for teacher, n in zip(teachers, first, strict=True)
        ]

    def forward(
        self,
        views: ViewBatch,
        teacher_temp: float,
        fixed_shapes: bool | None = None,
        part: BatchPart | None = None,
        sharpness: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """One batch of views to the scalars "contrastive", "masked", "koleo" and their sum "loss".

        fixed_shapes: in place of the attribute. sharpness: what teacher_temp is divided by,
        see `sharpen`.
        """
        sorted_views, masked = self.arrange(views, fixed_shapes)
        student = self.encode_student(sorted_views, masked)
        teacher = self.encode_teacher(sorted_views, masked) if part is None else part.teacher
        with step_part(LOSS):
            terms = self.compare(student, teacher, masked, teacher_temp, part, sharpness)
            weighted = [getattr(self.config.loss, name) * term for name, term in terms.items()]
            return {"loss": torch.stack(weighted).sum(), **terms}

    def arrange(
        self, views: ViewBatch, fixed_shapes: bool | None = None
    ) -> tuple[SortedViews, MaskedTokens | None]:
        """The views as they are encoded, and `find_masked` of them."""
        if fixed_shapes is None:
            fixed_shapes = self.fixed_shapes
        sorted_views = sort_views(
            [group.clips for group in views.groups],
            [group.mask for group in views.groups],
            self.config.encoder.attention,
            bool(fixed_shapes),
        )
        return sorted_views, self.find_masked(sorted_views, views.max_masked, fixed_shapes)

    def find_masked(
        self, views: SortedViews, max_masked: int | None, fixed_shapes: bool | None = None
    ) -> MaskedTokens | None:
        """The masked tokens of the global views; None without masked feature modelling.

        fixed_shapes: take max_masked tokens, whatever the masks, some of them in vain. None: on a
        GPU, where max_masked is known.
        """
        if not self.config.loss.masked:
            return None
        masks = views.masks[0]
        if fixed_shapes is None:
            fixed_shapes = masks.is_cuda and max_masked is not None
        if fixed_shapes and max_masked is None:
            raise ValueError(
                "fixed_shapes needs views.max_masked, the most tokens of global views that can "
                "be masked"
            )
        return find_masked_tokens(masks, max_masked if fixed_shapes else None)

    def encode_student(self, views: SortedViews, masked: MaskedTokens | None) -> Features:
        """What the student makes of all views, masked (paper section 3.2)."""
        return encode(self.student.encoder, views, views.masks, masked)

    @torch.no_grad()
    def encode_teacher(self, views: SortedViews, masked: MaskedTokens | None) -> Features:
        """What the teacher makes of the global views, unmasked (paper section 3.3)."""
        return encode(self.teacher.encoder, views, [None], masked)

    def compare(
        self,
        student: Features,
        teacher: Features,
        masked: MaskedTokens | None,
        teacher_temp: float,
        part: BatchPart | None = None,
        sharpness: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The terms of the objective that have a weight (paper section 3.4)."""
        terms: dict[str, Tensor] = {}
        group = self.group if part is None else None
        if self.config.loss.contrastive:
            heads = self.student.contrastive_head, self.teacher.contrastive_head
            terms["contrastive"] = contrastive_loss(
                *(student.cls, teacher.cls[0], *heads, teacher_temp),
                *(None if part is None else part.contrastive, group, sharpness),
            )
        if masked is not None:
            heads = self.student.masked_head, self.teacher.masked_head
            patches = (student.patches, teacher.patches)
            terms["masked"] = masked_feature_loss(
                *(*patches, masked.weight, masked.is_masked, *heads, teacher_temp),
                *(None if part is None else part.masked, group, sharpness),
            )
        if self.config.loss.koleo:
            terms["koleo"] = self.spread(student.cls[0], part)
        return terms

    def spread(self, cls: Tensor, part: BatchPart | None) -> Tensor:
        """KoLeo of the student's global CLS (B, 2, D), each view over the whole batch."""
        if part is None and self.group is None:
            return koleo(cls[:, 0]) + koleo(cls[:, 1])
        if part is None:
            first = rank_of(self.group) * len(cls)
            whole, nearest = share_cls(cls.detach(), self.group)
        else:
            assert part.cls is not None
            assert part.nearest is not None
            whole, nearest, first = part.cls, part.nearest, part.first
        terms = [
            koleo_of_part(cls[:, view], whole[:, view], first, nearest[:, view])
            for view in range(2)
        ]
        return torch.stack(terms).sum()

    def update_teacher(self, momentum: float) -> None:
        """teacher = momentum * teacher + (1 - momentum) * student, for every parameter."""
        self._follow(1 - momentum)

    @torch.no_grad()
    def _follow(self, share: float | Tensor) -> None:
        teacher: list[Tensor] = list(self.teacher.parameters())
        student: list[Tensor] = list(self.student.parameters())
        if isinstance(share, Tensor):
            torch._foreach_lerp_(teacher, student, [share] * len(teacher))
        else:
            torch._foreach_lerp_(teacher, student, share)
