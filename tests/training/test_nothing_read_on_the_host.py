"""From the cache to updated weights a step reads no tensor on the host, which a CUDA graph demands.

Run with tensors that hold no data: whatever wants to know a value, or a size that depends on one,
raises.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from slim_fast.data import ClipCache
from slim_fast.model import slim, streams
from slim_fast.model.slim import Network
from slim_fast.training.optimizer import clip_gradients
from slim_fast.training.schedules import compute_schedules
from slim_fast.training.trainer import Trainer
from slim_fast.views.pipeline import ViewSampler
from slim_fast.views.store import FrameStore
from tests.training.test_mae import MAE

pytest.importorskip("triton", reason="the Triton kernels need triton")
from slim_kernels.attention import triton as attention_triton
from slim_kernels.embed_tokens import triton as embed_triton
from slim_kernels.feed_forward import triton as swiglu_triton
from slim_kernels.linear import triton as linear_triton
from slim_kernels.prototype_loss import triton as prototype_triton
from slim_kernels.prototype_loss import triton_inputs, triton_passes
from slim_kernels.runtime import arguments, tensor_cache, triton_layer_norm

VARIANTS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "no local views": {"views__local": []},
    "visible": {"model__encoder__attention": "visible"},
    "visible, no local views": {"model__encoder__attention": "visible", "views__local": []},
    "parts": {"accumulate": 2},
    "random masks": {"views__mask__kind": "random"},
    "motion": {"views__mask__kind": "motion", "model__encoder__stream": "motion"},
    "one term": {"model__loss__masked": 0.0, "model__loss__koleo": 0.0},
    "bones": {"model__encoder__stream": "bone"},
    "mae": MAE,
    "mae in parts": MAE | {"accumulate": 2},
}


@pytest.fixture
def like_a_gpu(monkeypatch):
    """The Triton ops, and no look into tensors, as on a GPU."""
    monkeypatch.setenv("SLIM_KERNELS", "triton")
    # redraws by what it drew
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda tensor, std: tensor)
    for module in (arguments, sys.modules["slim_kernels.embed_tokens"]):
        monkeypatch.setattr(module, "contents_checked", lambda x: False)


@pytest.fixture
def dataless_trainer(like_a_gpu, tiny_config, cache_path, monkeypatch):
    """Makes a trainer on clips and weights that hold no data."""

    def make(mode: FakeTensorMode, fixed: bool = True, **changes: Any) -> Trainer:
        config = tiny_config(**changes)
        # would copy the tracer as well
        monkeypatch.setattr(slim.copy, "deepcopy", lambda _: Network(config.model, 5, 3))
        # they are there
        monkeypatch.setattr(torch.nn.Module, "to", lambda module, device: module)
        store = FrameStore(ClipCache.open(cache_path))
        with mode:
            for name, value in vars(store).items():
                if isinstance(value, torch.Tensor):
                    setattr(store, name, mode.from_tensor(value))
            trainer = Trainer(config, store, unwatched=True)
        trainer.model.fixed_shapes = fixed
        return trainer

    return make


@contextmanager
def no_host_numbers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither does a tensor become the host's, nor do the host's numbers become one."""
    with monkeypatch.context() as patch:
        for method in ("tolist", "numpy", "cpu", "item", "__bool__", "__int__", "__float__"):
            patch.setattr(torch.Tensor, method, _refuse)
        for function in ("tensor", "as_tensor", "from_numpy"):
            patch.setattr(torch, function, _refuse)
        yield


@pytest.mark.parametrize("variant", VARIANTS)
def test_from_the_cache_to_updated_weights_nothing_is_read(variant, dataless_trainer, monkeypatch):
    mode = FakeTensorMode()
    trainer = dataless_trainer(mode, **VARIANTS[variant])
    # made once and kept, but not under a tracer
    monkeypatch.setattr(streams, "_parents", lambda parents, device: torch.arange(len(parents)))
    with mode, _NothingRead():
        for frozen in (True, False):
            trainer.moving.prototypes_frozen = frozen
            with no_host_numbers(monkeypatch):
                values = trainer._advance_alone()
            assert values["loss"].shape == values["gradient_norm"].shape == ()
    moved = [p for p in trainer.model.trained.parameters() if p in trainer.optimizer.state]
    assert moved


@pytest.mark.parametrize("variant", ["visible", "mae"])
def test_this_would_notice_tokens_that_are_dropped(variant, dataless_trainer):
    mode = FakeTensorMode()
    trainer = dataless_trainer(mode, fixed=False, **VARIANTS[variant])
    with mode, pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        trainer._advance_alone()


@pytest.mark.parametrize("what", ["views", "noise", "the watched step"])
def test_this_would_notice_what_the_ordinary_step_reads(what, dataless_trainer):
    mode = FakeTensorMode()
    trainer = dataless_trainer(mode)
    trainer.sampler.fixed_shapes = what == "the watched step"
    if what == "noise":
        trainer.sampler._views = partial(noise_alone, trainer.sampler)
    run = trainer._advance_alone
    if what == "the watched step":
        now = compute_schedules(0, 8, 4, trainer.config.optim)
        run = partial(trainer._watched_step, 0, now)
    with mode, pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        run()


def noise_alone(sampler: ViewSampler, *arguments: Any) -> torch.Tensor:
    *_, position, kind, stream = arguments
    views = torch.zeros(*position.shape, 5, 3)
    return sampler._augment.add_noise(views, kind.expand(position.shape[:2]), stream)


class _NothingRead(TorchDispatchMode):
    """Raises when an operation's result goes to the host or its size depends on tensors' values."""

    FORBIDDEN = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "is_nonzero",
        "bincount",
        "equal",
        "_unique2",
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        bools = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        assert name not in self.FORBIDDEN and not bools, f"{name} reads a tensor on the host"  # noqa: PT018
        return func(*args, **(kwargs or {}))


def _bodies() -> list[Callable[[], Any]]:
    """The Python around the kernels of every op, called as it is."""
    x, gain, w, b = torch.randn(9, 16), torch.ones(16), torch.randn(16, 16), torch.zeros(16)
    w12, w3 = torch.randn(10, 16), torch.randn(16, 5)
    qkv, cu, time = (
        torch.randn(9, 3, 1, 16),
        torch.tensor([0, 4, 9], dtype=torch.int32),
        torch.zeros(9, dtype=torch.int32),
    )
    visible = torch.arange(9) % 2 == 0
    angles = torch.ones(2, 5, 8)
    out, lse = attention_triton.packed_attention(qkv, cu, 5, *angles, time, visible, None)
    clips, masks = [torch.randn(2, 8, 5, 3)], [torch.rand(2, 2, 5) < 0.5]
    parts = [torch.randn(s) for s in ((16, 3, 4), (16,), (16,), (5, 16), (1, 16))]
    unit = torch.nn.functional.normalize(x, dim=1)
    target, ones = torch.arange(9)[:, None] % 4, torch.ones(9)
    loss = (unit, w, unit, w, target, ones, ones.bool(), 0.1, 0.05, 3, None)
    paired = (unit, w, unit, w, None, *loss[5:])
    swiglu = (x, gain, b, w12, torch.zeros(10), w3, b)
    calls = [
        (linear_triton.norm_linear, (x, gain, b, w, b, 1e-6)),
        (linear_triton.norm_linear_backward, (x, x, gain, b, w, b, x, 1e-6, [True] * 5)),
        (linear_triton.linear_residual, (x, w, b, x)),
        (linear_triton.linear_residual_backward, (x, x, w, b, [True] * 3)),
        (swiglu_triton.norm_swiglu, (*swiglu, 1e-6)),
        (swiglu_triton.norm_swiglu_backward, (x, *swiglu, 1e-6, [True] * 7)),
        (attention_triton.packed_attention, (qkv, cu, 5, *angles, time, visible, None)),
        (
            attention_triton.packed_attention_backward,
            (out, qkv, out, lse, cu, 5, *angles, time, visible, None),
        ),
        (embed_triton.embed_tokens, (clips, masks, *parts, torch.arange(13))),
        (
            embed_triton.embed_tokens_backward,
            (torch.randn(11, 16), clips, masks, *parts, torch.arange(13), [True] * 5),
        ),
        (prototype_triton.prototype_loss, (*loss, 0, True, True)),
        (prototype_triton.prototype_loss, (*loss, 1 << 20, True, True)),
        (prototype_triton.prototype_loss, (*paired, 1 << 20, True, True)),
    ]
    return [partial(op._init_fn, *arguments) for op, arguments in calls]


class _Launched:
    """In a kernel's place: launching it does nothing, for the interpreter itself reads tensors."""

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *_, **__: None


def _refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("reads a tensor on the host, or makes one of the host's numbers")


@pytest.mark.parametrize("number", range(13))
def test_no_op_reads_a_tensor_around_its_kernels(number, monkeypatch):
    body = _bodies()[number]
    for module in (
        attention_triton,
        embed_triton,
        linear_triton,
        triton_layer_norm,
        triton_inputs,
        triton_passes,
        swiglu_triton,
    ):
        for kernel in [k for k in vars(module) if k.endswith("_kernel")]:
            monkeypatch.setattr(module, kernel, _Launched())
    for method in ("tolist", "numpy", "cpu", "item"):
        monkeypatch.setattr(torch.Tensor, method, _refuse)
    for function in ("tensor", "as_tensor", "from_numpy"):
        monkeypatch.setattr(torch, function, _refuse)
    with _NothingRead():
        body()


def test_the_watch_would_notice():
    with pytest.raises(AssertionError, match="reads a tensor"), _NothingRead():
        bool(torch.ones(2).sum() > 0)
    with pytest.raises(AssertionError, match="reads a tensor"), _NothingRead():
        torch.ones(2)[torch.ones(2).bool()]


class _OneDevice(TorchDispatchMode):
    """Notes operations that take tensors of two devices, or take one to another device."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
        if len({x.device for x in tensors}) > 1:
            self.mixed.append(str(func))
        return out


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_made_on_the_host_and_sent(
    variant, like_a_gpu, tiny_config, cache_path, monkeypatch
):
    """The meta device stands in for CUDA."""
    store = FrameStore(ClipCache.open(cache_path))
    store.device = torch.device("meta")
    for name, value in vars(store).items():
        if isinstance(value, torch.Tensor):
            setattr(store, name, value.to("meta"))
    trainer = Trainer(tiny_config(**VARIANTS[variant]), store, unwatched=True)
    moving = trainer.moving
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    # what is kept from step to step is sent in the first
    monkeypatch.setattr(tensor_cache, "_get_current_dispatch_mode", lambda: None)
    for _ in range(2):
        with _OneDevice() as noted:
            parts = [trainer.sampler(moving.clips, moving.step, part) for part in trainer.parts]
            losses = trainer.compute_gradients(parts, moving)
            norms = clip_gradients(trainer.model.trained, 3.0)
            moving.check(losses["loss"] + norms.sum())
            trainer.model.after_update(moving)
    assert noted.mixed == []
