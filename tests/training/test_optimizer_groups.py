"""Who is decayed, who is slowed, what is clipped, and what a step leaves alone."""

from collections.abc import Callable

import pytest
import torch

from slim_fast.model.slim import Network
from slim_fast.training.config import OptimConfig
from slim_fast.training.optimizer import apply_schedules, build_optimizer, clip_gradients
from slim_fast.training.schedules import ScheduleValues
from slim_fast.training.trainer import Trainer

NOW = ScheduleValues(0.5, 0.1, 0.99, 0.05, False)


@pytest.fixture
def student(tiny_trainer: Callable[..., Trainer]) -> Network:
    return tiny_trainer().model.student


def settings(
    student: Network, config: OptimConfig, now: ScheduleValues
) -> dict[str, dict[str, float]]:
    """The optimizer's group of each parameter, by name."""
    optimizer = build_optimizer(student, config)
    apply_schedules(optimizer, now)
    names = {id(parameter): name for name, parameter in student.named_parameters()}
    found = [
        (names[id(parameter)], group)
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert len(found) == len(dict(found)) == len(names)  # every parameter in exactly one group
    return dict(found)


def test_biases_and_norms_and_nothing_else_escape_decay(student: Network) -> None:
    groups = settings(student, OptimConfig(), NOW)
    norms = {
        f"{name}.{part}"
        for name, module in student.named_modules()
        if isinstance(module, torch.nn.LayerNorm)
        for part in ("weight", "bias")
    }
    assert len(norms) == 2 * 3  # two in the one block, one at the end
    for name, group in groups.items():
        free = name.endswith(".bias") or name in norms
        assert group["weight_decay"] == (0.0 if free else 0.1), name
    tokens = ["cls_token", "register_tokens", "mask_token", "pos_embed"]
    named = [f"encoder.{token}" for token in tokens] + [
        "contrastive_head.prototypes",
        "masked_head.prototypes",
    ]
    assert all(groups[name]["weight_decay"] == 0.1 for name in named)


def test_patch_embedding_learns_at_a_fifth_of_the_rate(student: Network) -> None:
    groups = settings(student, OptimConfig(betas=(0.8, 0.9)), NOW)
    slow = {name for name, group in groups.items() if group["lr"] == 0.5 * 0.2}
    assert slow == {"encoder.patch_embed.proj.weight", "encoder.patch_embed.proj.bias"}
    assert all(group["lr"] == 0.5 for name, group in groups.items() if name not in slow)
    assert all(group["betas"] == (0.8, 0.9) for group in groups.values())


def test_a_step_without_gradients_only_decays(student: Network) -> None:
    optimizer = build_optimizer(student, OptimConfig())
    apply_schedules(optimizer, NOW)
    before = {name: parameter.detach().clone() for name, parameter in student.named_parameters()}
    for parameter in student.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in student.named_parameters():
        rate = 0.1 if "patch_embed" in name else 0.5
        decay = 0.0 if name.endswith("bias") or "norm" in name else 0.1
        torch.testing.assert_close(
            parameter, before[name] * (1 - rate * decay), rtol=1e-6, atol=1e-9
        )


def test_encoder_and_heads_are_clipped_each_on_its_own(student: Network) -> None:
    parts = {"encoder": 10.0, "contrastive_head": 3.0, "masked_head": 0.5}
    for name, norm in parts.items():
        parameters = list(getattr(student, name).parameters())
        count = sum(parameter.numel() for parameter in parameters)
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, norm / count**0.5)
    norms = clip_gradients(student, 2.0)
    assert norms.tolist() == pytest.approx([10.0, 3.0, 0.5], rel=1e-5)
    for name, norm in parts.items():
        gradients = [parameter.grad.flatten() for parameter in getattr(student, name).parameters()]
        assert torch.cat(gradients).norm().item() == pytest.approx(min(norm, 2.0), rel=1e-4)


def test_prototypes_stay_while_frozen_and_move_afterwards(
    tiny_trainer: Callable[..., Trainer],
) -> None:
    trainer = tiny_trainer(optim__freeze_prototypes=0.5)  # of 8 steps
    heads = [trainer.model.student.contrastive_head, trainer.model.student.masked_head]
    first = [head.prototypes.detach().clone() for head in heads]
    mlp = heads[0].mlp[0].weight.detach().clone()
    for step in range(4):
        trainer.step(step)
        assert all(
            torch.equal(head.prototypes, before) for head, before in zip(heads, first, strict=True)
        )
    assert not torch.equal(heads[0].mlp[0].weight, mlp)
    trainer.step(4)
    assert all(
        not torch.equal(head.prototypes, before) for head, before in zip(heads, first, strict=True)
    )


def test_teacher_follows_by_its_momentum_and_gets_no_gradient(
    tiny_trainer: Callable[..., Trainer],
) -> None:
    trainer = tiny_trainer()
    model = trainer.model
    for step in range(3):
        before = [parameter.clone() for parameter in model.teacher.parameters()]
        _, now = trainer.step(step)
        for old, new, student in zip(
            before, model.teacher.parameters(), model.student.parameters(), strict=True
        ):
            assert new.grad is None
            expected = now.teacher_momentum * old + (1 - now.teacher_momentum) * student
            torch.testing.assert_close(new, expected, rtol=1e-6, atol=1e-8)


def test_a_head_without_gradients_does_not_mix_devices(student: Network) -> None:
    """clip_grad_norm_ gives a zero on the CPU for it; the meta device stands in for CUDA."""
    student.to("meta")
    for parameter in student.encoder.parameters():
        parameter.grad = torch.empty_like(parameter)
    assert clip_gradients(student, 1.0).device.type == "meta"
