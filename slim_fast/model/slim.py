"""Student, EMA teacher and the objective of one step (paper section 3)."""

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from slim_fast.model.encoder import Encoder, EncoderConfig
from slim_fast.model.heads import HeadConfig, PrototypeHead
from slim_fast.model.objectives import contrastive_loss, koleo, masked_feature_loss
from slim_fast.model.packing import masked_places
from slim_fast.views.pipeline import ViewBatch


@dataclass
class LossConfig:
    """Weights of the objective's terms; a weight of 0 leaves the term out."""

    contrastive: float = 1.0
    """Global-local contrastive loss (global-global only when there are no local views)."""
    masked: float = 1.0
    """Masked feature modelling."""
    koleo: float = 0.1
    """KoLeo regulariser on the student's global CLS."""


@dataclass
class ModelConfig:
    """The encoder, its heads and the objective."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """The encoder."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """Both prototype heads."""
    loss: LossConfig = field(default_factory=LossConfig)
    """The objective."""


def _alike(mask: Tensor, group: int, attention: str) -> Tensor | None:
    """An order of a group's sequences in which neighbours are alike, on which the encoder is faster: global views
    (group 0) by whether tokens are read, local ones by how many are left. None: as they are.
    """
    if group and attention == "all":
        return None
    masked = mask.flatten(1).sum(1)
    return (masked if group else (masked > 0).to(torch.uint8)).argsort(descending=True, stable=True)


def _sorted(x: Tensor, order: Tensor | None) -> Tensor:
    return x if order is None else x[order]


def _unsorted(x: Tensor, order: Tensor | None) -> Tensor:
    return x if order is None else x[order.argsort()]


class Network(nn.Module):
    """Encoder and both prototype heads: what the student trains and the teacher averages."""

    def __init__(self, config: ModelConfig, joints: int, channels: int) -> None:
        super().__init__()
        self.encoder = Encoder(config.encoder, joints, channels)
        self.contrastive_head = PrototypeHead(config.encoder.width, config.head)
        self.masked_head = PrototypeHead(config.encoder.width, config.head)


class SLiM(nn.Module):
    """Student and teacher with the step's objective."""

    def __init__(self, config: ModelConfig, joints: int, channels: int) -> None:
        super().__init__()
        self.config = config
        self.student = Network(config, joints, channels)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def forward(
        self, views: ViewBatch, teacher_temp: float, fixed_shapes: bool | None = None
    ) -> dict[str, Tensor]:  # fmt: skip
        """Scalars "loss" (the weighted sum), "contrastive", "masked" and "koleo" of one batch of views.

        fixed_shapes: whether no tensor's size follows the masks: a few rows of padding are computed, and the host reads
        nothing here or in the backward, so that a CUDA graph can capture both (with optimizer groups that are
        `capturable`, the update too; making views reads). None: on a GPU, where views.most_masked is known. Attention
        to visible tokens only reads their number all the same.
        """
        config, student, teacher = self.config.loss, self.student, self.teacher
        batch = len(views.clip)
        clips = [group.clips.flatten(0, 1) for group in views.groups]  # (B * n, w, V, C)
        masks = [group.mask.flatten(0, 1) for group in views.groups]  # (B * n, w / 8, V)
        counts = [group.clips.shape[1] for group in views.groups]
        orders = [_alike(mask, number, student.encoder.config.attention) for number, mask in enumerate(masks)]
        clips, masks = ([_sorted(x, order) for x, order in zip(group, orders, strict=True)] for group in (clips, masks))
        if fixed_shapes is None:
            fixed_shapes = clips[0].is_cuda and views.most_masked is not None
        if fixed_shapes and views.most_masked is None:
            raise ValueError("fixed_shapes needs views.most_masked, the most tokens of global views that can be masked")
        hidden = masks[0].flatten(1)  # (2 B, N)
        places, real = masked_places(hidden, views.most_masked if fixed_shapes else None)
        read_places = places if config.masked else None

        packed = student.encoder.pack(clips, masks, [False] + [True] * (len(clips) - 1))
        read = packed.reading([read_places] + [None] * (len(clips) - 1))
        features, _ = student.encoder.encode_packed(clips, masks, packed, read)
        sequences = len(read.queries)
        groups = features[:sequences].split([batch * n for n in counts])
        cls = [_unsorted(part, order).unflatten(0, (batch, -1)) for part, order in zip(groups, orders, strict=True)]

        with torch.no_grad():
            packed = teacher.encoder.pack(clips[:1])
            target, _ = teacher.encoder.encode_packed(clips[:1], [None], packed, packed.reading([read_places]))

        terms: dict[str, Tensor] = {}
        if config.contrastive:
            target_cls = _unsorted(target[: 2 * batch], orders[0]).unflatten(0, (batch, 2))
            terms["contrastive"] = contrastive_loss(
                cls, target_cls, student.contrastive_head, teacher.contrastive_head, teacher_temp
            )
        if config.masked:
            weight = 1.0 / (hidden.sum(1).clamp_min(1) * 2 * batch)  # (2 B,)
            terms["masked"] = masked_feature_loss(
                features[sequences:],
                target[2 * batch :],
                weight[places // hidden.shape[1]],
                real,
                student.masked_head,
                teacher.masked_head,
                teacher_temp,
            )
        if config.koleo:
            terms["koleo"] = koleo(cls[0][:, 0]) + koleo(cls[0][:, 1])
        loss = torch.stack([getattr(config, name) * term for name, term in terms.items()]).sum()
        return {"loss": loss, **terms}

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """teacher = momentum * teacher + (1 - momentum) * student, for every parameter."""
        torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 1 - momentum)
