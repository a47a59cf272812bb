"""A step's operations, recorded once and run again on the same tensors, are the next step.

That is what replaying a CUDA graph does. Whatever the host had decided from what tensors held, or
from its own numbers, would be decided once for all.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from slim_fast.training.schedules import compute_schedules
from slim_fast.training.trainer import NonFiniteLoss, Trainer
from tests.training.test_mae import MAE

Same = Callable[[Any, Any], bool]
VARIANTS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "no local views": {"views__local": []},
    "visible": {"model__encoder__attention": "visible"},
    "parts": {"accumulate": 2},
    "random masks": {"views__mask__kind": "random"},
    "bones": {"model__encoder__stream": "bone"},
    "mae": MAE,
}


def tensors(tree: Any) -> list[torch.Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]


class Tape(TorchDispatchMode):
    """Records operations with their tensors; `replay` runs them on these again."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, out in self.calls:
            given = {x.untyped_storage().data_ptr() for x in tensors((args, kwargs))}
            again = func(*args, **kwargs)
            for place, value in zip(tensors(out), tensors(again), strict=True):
                # views, and what was written in place, are where they were
                if place.untyped_storage().data_ptr() not in given:
                    place.copy_(value)


def fill(trainer: Trainer, step: int) -> None:
    config = trainer.config
    now = trainer._last = compute_schedules(step, config.steps, config.batch, config.optim)
    trainer.moving.fill(step, now, trainer.order(step))


def record(trainer: Trainer, step: int) -> tuple[Tape, dict[str, torch.Tensor]]:
    """Take a step, and keep how."""
    fill(trainer, step)
    with Tape() as tape:
        values = trainer._advance_alone()
    return tape, values


def check_tape(ordinary: Trainer, taped: Trainer, last: int, same: Same) -> None:
    assert taped.model.fixed_shapes
    for step in range(3):  # two of them with frozen prototypes
        ordinary.step(step)
        taped.step(step)
    tape, recorded = record(taped, 3)
    for step in range(3, last):
        if step > 3:
            fill(taped, step)
            tape.replay()
        expected, _ = ordinary.step(step)
        assert same(recorded, expected)
        assert same(taped.state_dict(), ordinary.state_dict())


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "parts"])
def test_a_step_replayed_is_the_next_step(variant, tiny_trainer, same: Same):
    check_tape(*(tiny_trainer(unwatched=True, **VARIANTS[variant]) for _ in range(2)), 8, same)


@pytest.mark.long
@pytest.mark.parametrize("variant", ["parts", "visible", "mae"])
def test_so_it_is_with_the_triton_kernels(variant, tiny_trainer, same: Same, monkeypatch):
    """A CPU's attention goes by how many views of a part are masked, which the host reads."""
    monkeypatch.setenv("SLIM_KERNELS", "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    check_tape(*(tiny_trainer(unwatched=True, **VARIANTS[variant]) for _ in range(2)), 6, same)


def test_frozen_prototypes_are_a_tape_of_their_own(tiny_trainer, same: Same):
    """The key of `StepGraphs`: what is skipped then is decided on the host."""
    ordinary, taped = (tiny_trainer(unwatched=True, optim__freeze_prototypes=0.5) for _ in range(2))
    ordinary.step(0)
    taped.step(0)
    tape, _ = record(taped, 1)
    ordinary.step(1)
    for step in (2, 3, 4):
        fill(taped, step)
        tape.replay()
        ordinary.step(step)
        assert same(taped.model.state_dict(), ordinary.model.state_dict()) == (step < 4)


def test_a_replayed_step_that_is_not_finite_changes_nothing(tiny_trainer, same: Same):
    trainer = tiny_trainer(unwatched=True)
    for step in range(3):
        trainer.step(step)
    tape, _ = record(trainer, 3)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.store._origins.fill_(float("nan"))
    for step in (4, 5):
        fill(trainer, step)
        tape.replay()
    assert same(trainer.model.state_dict(), before)
    with pytest.raises(NonFiniteLoss, match="step 4"):
        trainer.check_finite()


def test_this_would_notice_what_the_host_decides(tiny_trainer, same: Same):
    """Noise drawn only for the views that have any, by numbers that the host reads."""
    ordinary, taped = (tiny_trainer(unwatched=True) for _ in range(2))
    taped.sampler.fixed_shapes = False
    with pytest.raises((AssertionError, RuntimeError)):  # of other values, or other sizes
        check_tape(ordinary, taped, 8, same)
