"""The SLiM pre-training step in plain eager PyTorch: the baseline of the training benchmark.

Written as the field writes it: one student forward for each view length, the teacher's forward,
logits over all prototypes held in memory, Sinkhorn by sweeps over them. Nothing here uses the
project's own model code. Sections 5 and 6 of the recipe (Do et al., "Less is More", arXiv
2603.10648).
"""

import copy
import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.baselines.eager_encoder import Encoder, init_linear


@dataclass(frozen=True)
class EagerConfig:
    """Sizes and constants; the defaults are the recipe's."""

    joints: int = 25
    channels: int = 3
    width: int = 256
    depth: int = 8
    heads: int = 8
    registers: int = 4
    patch_frames: int = 8
    head_hidden: int = 2048
    head_width: int = 256
    prototypes: int = 65536
    student_temperature: float = 0.1
    sinkhorn_iterations: int = 3
    koleo_weight: float = 0.1


class PrototypeHead(nn.Module):
    """Features (..., D) to cosines with K prototypes (..., K) by a three-layer MLP."""

    def __init__(self, width: int, hidden: int, out: int, prototypes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, out),
        )
        self.prototypes = nn.Parameter(
            nn.init.trunc_normal_(torch.empty(prototypes, out), std=0.02)
        )
        self.apply(init_linear)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mlp(x)
        x = F.normalize(x.float(), dim=-1, eps=1e-6 if x.dtype == torch.float16 else 1e-12)
        return F.linear(x, F.normalize(self.prototypes, dim=-1))


class Network(nn.Module):
    """Encoder and both heads: what the student trains and the teacher averages."""

    def __init__(self, config: EagerConfig) -> None:
        super().__init__()
        blocks = (config.width, config.depth, config.heads)
        tokens = (config.registers, config.patch_frames)
        self.encoder = Encoder(config.joints, config.channels, *blocks, *tokens)
        sizes = (config.width, config.head_hidden, config.head_width, config.prototypes)
        self.contrastive_head = PrototypeHead(*sizes)
        self.masked_head = PrototypeHead(*sizes)


@torch.no_grad()
def sinkhorn(logits: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Assignments (N, K) from cosines (N, K) in fp32 or fp64, by sweeps; rows sum to 1."""
    assignment = torch.exp(at_least_fp32(logits) / temperature)
    rows, columns = assignment.shape
    for _ in range(iterations):
        assignment /= assignment.sum(0, keepdim=True) * columns
        assignment /= assignment.sum(1, keepdim=True) * rows
    return assignment * rows


def cross_entropy(targets: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy (N,) between soft targets (N, K) and the softmax of cosines (N, K)."""
    return -(targets * F.log_softmax(at_least_fp32(logits) / temperature, dim=-1)).sum(-1)


def at_least_fp32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def koleo(features: Tensor) -> Tensor:
    """Minus the mean log distance of features (B, D) to their nearest neighbours; 0 without any."""
    if len(features) < 2:
        return features.new_zeros(())
    with torch.autocast(features.device.type, enabled=False):
        features = F.normalize(features.float(), dim=-1)
        with torch.no_grad():
            nearest = (features @ features.T).fill_diagonal_(-2).argmax(1)
        distance = torch.linalg.vector_norm(features - features[nearest], dim=-1)
        return -torch.log(distance + 1e-6).mean()


class EagerSLiM(nn.Module):
    """Student, teacher and the loss of one step."""

    def __init__(self, config: EagerConfig = EagerConfig()) -> None:
        super().__init__()
        self.config = config
        self.student = Network(config)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def loss(
        self, clips: Sequence[Tensor], masks: Sequence[Tensor], teacher_temp: float
    ) -> dict[str, Tensor]:
        """Scalars in fp32: "loss", and its parts "contrastive", "masked" and (unweighted) "koleo".

        ``clips[w]`` (B, n, frames, V, C) float and ``masks[w]`` (B, n, frames/8, V) bool, window by
        window; the first window holds the two globals. loss = contrastive + masked + 0.1 koleo.

        - contrastive: for every ordered pair (teacher's global, another student view), 2 + 2 * 8 =
          18 of them with the recipe's views, the batch mean of the cross-entropy; the mean over the
          pairs. The student sees its globals masked by ``masks[0]``, and its CLS is taken from that
          same forward.
        - masked: cross-entropy at the masked tokens of the globals, averaged within each view,
          summed over the views that have any and divided by 2B, all views counted; the recipe's
          "times 2 for the globals, times 1/2" is 1. With half of the views masked and uniform
          predictions it is log(K) / 2.
        - koleo: of the student's CLS before the head, the sum over the two globals, each over its
          own batch.
        """
        batch, views = clips[0].shape[:2]
        prefix = self.student.encoder.prefix
        temperature = self.config.student_temperature
        global_mask = masks[0].flatten(0, 1).flatten(1)  # (2B, T/8 * V)

        with torch.no_grad():
            tokens = self.teacher.encoder(clips[0].flatten(0, 1))
            cls_targets = self.targets(self.teacher.contrastive_head(tokens[:, 0]), teacher_temp)
            cls_targets = cls_targets.view(batch, views, -1)  # (B, 2, K)
            patch_targets = self.targets(
                self.teacher.masked_head(tokens[:, prefix:][global_mask]), teacher_temp
            )

        tokens = self.student.encoder(clips[0].flatten(0, 1), masks[0].flatten(0, 1))
        patch_logits = self.student.masked_head(tokens[:, prefix:][global_mask])
        weight = (1 / global_mask.sum(1).clamp(min=1))[:, None].expand_as(global_mask)[global_mask]
        masked = (cross_entropy(patch_targets, patch_logits, temperature) * weight).sum()
        masked = masked / (batch * views)

        cls = [tokens[:, 0].reshape(batch, views, -1)]
        for window, mask in zip(clips[1:], masks[1:], strict=True):
            tokens = self.student.encoder(window.flatten(0, 1), mask.flatten(0, 1))
            cls.append(tokens[:, 0].reshape(batch, window.shape[1], -1))
        # (B, 10, K), the globals first
        logits = self.student.contrastive_head(torch.cat(cls, dim=1))
        terms = [
            cross_entropy(cls_targets[:, target], logits[:, view], temperature).mean()
            for target, view in itertools.product(range(views), range(logits.shape[1]))
            if target != view
        ]
        contrastive = torch.stack(terms).mean()

        spread = torch.stack([koleo(cls[0][:, view]) for view in range(views)]).sum()
        total = contrastive + masked + self.config.koleo_weight * spread
        return {"loss": total, "contrastive": contrastive, "masked": masked, "koleo": spread}

    def targets(self, logits: Tensor, temperature: float) -> Tensor:
        return sinkhorn(logits, temperature, self.config.sinkhorn_iterations)

    def training_step(
        self,
        optimizer: torch.optim.Optimizer,
        clips: Sequence[Tensor],
        masks: Sequence[Tensor],
        teacher_temp: float,
        *,
        momentum: float = 0.994,
        max_norm: float = 3.0,
        freeze_prototypes: bool = False,
        autocast: torch.dtype | None = None,
    ) -> dict[str, Tensor]:
        """One whole step: loss, backward, clipping by submodule, AdamW, teacher average."""
        device = clips[0].device.type
        with torch.autocast(device, dtype=autocast) if autocast else nullcontext():
            losses = self.loss(clips, masks, teacher_temp)
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        for module in self.student.children():
            torch.nn.utils.clip_grad_norm_(module.parameters(), max_norm)
        if freeze_prototypes:
            for head in (self.student.contrastive_head, self.student.masked_head):
                head.prototypes.grad = None
        optimizer.step()
        self.update_teacher(momentum)
        return {name: value.detach() for name, value in losses.items()}

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """teacher = momentum * teacher + (1 - momentum) * student."""
        teacher: list[Tensor] = list(self.teacher.parameters())
        student: list[Tensor] = list(self.student.parameters())
        torch._foreach_mul_(teacher, momentum)
        torch._foreach_add_(teacher, student, alpha=1 - momentum)


def make_optimizer(model: EagerSLiM, lr: float, weight_decay: float = 0.04) -> torch.optim.AdamW:
    """AdamW over the student, biases and norms not decayed, the patch embedding at a fifth."""
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in model.student.named_parameters():
        decays = not (name.endswith(".bias") or "norm" in name)
        groups.setdefault((decays, "patch_embed" in name), []).append(parameter)
    options = [
        {
            "params": params,
            "lr": lr * (0.2 if patch else 1.0),
            "weight_decay": decays * weight_decay,
        }
        for (decays, patch), params in groups.items()
    ]
    return torch.optim.AdamW(options, betas=(0.9, 0.999))
