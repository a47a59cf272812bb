"""Steps by graphs without a GPU: a tape stands in for a graph, on a CPU that takes the GPU's path.

What a real capture forbids beyond that (allocations, waits) only a GPU would show.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from slim_fast.errors import UserError
from slim_fast.training.config import PretrainConfig
from slim_fast.training.graph import StepGraphs, captures_steps
from slim_fast.training.trainer import NonFiniteLoss, Trainer
from tests.training.test_tape import Tape
from tests.training.test_unwatched_step import poison

Same = Callable[[Any, Any], bool]
STEPS = {"steps": 16, "optim__freeze_prototypes": 0.5}


class Stream:
    def wait_stream(self, other: Any) -> None: ...


@pytest.fixture
def captured(tiny_trainer, monkeypatch) -> Callable[..., Trainer]:
    """Makes a trainer whose steps are captured; its `captures` says at which."""
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: Stream())
    for name in ("stream", "device"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Tape)

    def make(**changes: Any) -> Trainer:
        trainer = tiny_trainer(unwatched=True, **changes)
        trainer.graphs = StepGraphs(trainer._advance_alone, trainer.device, False)
        trainer.captures = []

        @contextmanager
        def capture(tape: Tape) -> Iterator[None]:
            """A capture runs nothing: what it did is undone."""
            state = [*trainer.model.state_dict().values(), trainer.moving.first_bad]
            state += [x for s in trainer.optimizer.state.values() for x in s.values()]
            before = [x.clone() for x in state]
            with tape:
                yield
            with torch.no_grad():
                for x, old in zip(state, before, strict=True):
                    x.copy_(old)
            trainer.captures.append(int(trainer.moving.step))

        monkeypatch.setattr(torch.cuda, "graph", capture)
        return trainer

    return make


def test_a_run_by_graphs_is_the_ordinary_run(captured, tiny_trainer, same: Same):
    trainer, ordinary = captured(**STEPS), tiny_trainer(unwatched=True, **STEPS)
    for step in range(16):
        ours, theirs = (t.step(step)[0] for t in (trainer, ordinary))
        assert same(ours, theirs)
        assert same(trainer.state_dict(), ordinary.state_dict())
    # three steps as they are, and so when prototypes thaw
    assert trainer.captures == [3, 11]


def test_a_resumed_run_captures_anew(captured, tiny_trainer, same: Same):
    trainer, ordinary = captured(**STEPS), tiny_trainer(unwatched=True, **STEPS)
    for step in range(5):
        trainer.step(step)
        ordinary.step(step)
    trainer.load_state_dict(copy.deepcopy(ordinary.state_dict()))
    for step in range(5, 10):
        trainer.step(step)
        ordinary.step(step)
    # two of them with frozen prototypes
    assert trainer.captures == [3]
    assert same(trainer.state_dict(), ordinary.state_dict())


def test_what_is_not_finite_is_found_behind_a_graph(
    captured, tiny_trainer, same: Same, monkeypatch
):
    trainer, ordinary = captured(**STEPS), tiny_trainer(unwatched=True, **STEPS)
    for step in range(6):
        ordinary.step(step)
    poison(trainer, monkeypatch, 6)
    for step in range(10):
        trainer.step(step)
    with pytest.raises(NonFiniteLoss, match="step 6"):
        trainer.check_finite()
    assert same(trainer.model.state_dict(), ordinary.model.state_dict())


def fail(*_: Any) -> Any:
    raise RuntimeError("operation not permitted when stream is capturing\nand more")


def test_a_step_that_cannot_be_captured_is_launched_as_it_is(captured, monkeypatch, same: Same):
    trainer, ordinary = captured(**STEPS), captured(**STEPS)
    trainer.graphs._is_optional = True
    for step in range(3):
        trainer.step(step)
        ordinary.step(step)
    ordinary.step(3)
    monkeypatch.setattr(torch.cuda, "graph", fail)
    with pytest.warns(UserWarning, match="cannot be captured .*is capturing.; it is launched as"):
        trainer.step(3)
    assert same(trainer.state_dict(), ordinary.state_dict())
    trainer.step(4)


def test_a_graph_that_is_demanded_and_fails_is_an_error(captured, monkeypatch):
    trainer = captured(**STEPS)
    monkeypatch.setattr(torch.cuda, "graph", fail)
    for step in range(3):
        trainer.step(step)
    with pytest.raises(UserError, match=r"cannot be captured .*; leave graph=on out\."):
        trainer.step(3)


GPU, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "processes", "staged", "kernels", "says"),
    [
        (CPU, 1, False, "", "takes a CUDA device"),
        (GPU, 2, False, "", "takes a single process"),
        (GPU, 1, True, "", "takes clips in device memory"),
        (GPU, 1, False, "reference", "takes the Triton kernels"),
    ],
)
def test_what_stands_in_the_way_is_named(device, processes, staged, kernels, says, monkeypatch):
    monkeypatch.setenv("SLIM_KERNELS", kernels)
    store: Any = SimpleNamespace(is_staged=staged)
    assert not captures_steps(PretrainConfig(), device, processes, store)
    with pytest.raises(UserError, match=says):
        captures_steps(PretrainConfig(graph="on"), device, processes, store)


def test_auto_computes_nothing_in_vain(monkeypatch):
    monkeypatch.setenv("SLIM_KERNELS", "")
    store: Any = SimpleNamespace(is_staged=False)
    visible = PretrainConfig()
    visible.model.encoder.attention = "visible"
    assert captures_steps(PretrainConfig(), GPU, 1, store)
    for config in (visible, PretrainConfig(method="mae")):
        assert not captures_steps(config, GPU, 1, store)
        config.graph = "on"
        assert captures_steps(config, GPU, 1, store)
    assert not captures_steps(PretrainConfig(graph="off"), GPU, 1, store)


def test_a_cpu_says_so_before_any_work(refused):
    assert "graph=on, but steps cannot be captured: that takes a CUDA device" in refused(graph="on")
