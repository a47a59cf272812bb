"""A training step with fixed shapes reads no tensor on the host, which a CUDA graph demands.

Run with tensors that hold no data: whatever wants to know a value, or a size that depends on one,
raises.
"""

import sys
from collections.abc import Callable
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

from slim_fast.model import slim
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.heads import HeadConfig
from slim_fast.model.slim import ModelConfig, Network, SLiM
from slim_fast.training.config import OptimConfig
from slim_fast.training.optimizer import build_optimizer, clip_gradients
from slim_fast.views.pipeline import ViewBatch, ViewGroup

pytest.importorskip("triton", reason="the Triton kernels need triton")
from slim_kernels.attention import triton as attention_triton
from slim_kernels.embed_tokens import triton as embed_triton
from slim_kernels.feed_forward import triton as swiglu_triton
from slim_kernels.linear import triton as linear_triton
from slim_kernels.prototype_loss import triton as prototype_triton
from slim_kernels.prototype_loss import triton_inputs, triton_passes
from slim_kernels.runtime import arguments, triton_layer_norm

CONFIG = ModelConfig(EncoderConfig(width=32, depth=2, heads=2, registers=2), HeadConfig(16, 8, 20))


def views() -> ViewBatch:
    groups = [
        ViewGroup(w, torch.randn(3, n, w, 5, 3), torch.rand(3, n, w // 8, 5) < 0.5)
        for w, n in ((32, 2), (16, 2), (8, 1))
    ]
    return ViewBatch(groups, torch.arange(3), 0, max_masked=70)


@pytest.fixture
def like_a_gpu(monkeypatch):
    """The Triton ops, and no look into tensors, as on a GPU."""
    monkeypatch.setenv("SLIM_KERNELS", "triton")
    # redraws by what it drew
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda tensor, std: tensor)
    # would copy the tracer as well
    monkeypatch.setattr(slim.copy, "deepcopy", lambda network: Network(CONFIG, 5, 3))
    for module in (arguments, sys.modules["slim_kernels.embed_tokens"]):
        monkeypatch.setattr(module, "contents_checked", lambda x: False)


def step(model: SLiM, optimizer: torch.optim.Optimizer, batch: ViewBatch, fixed: bool) -> None:
    model(batch, 0.05, fixed_shapes=fixed)["loss"].backward()
    clip_gradients(model.student, 3.0)
    optimizer.step()
    optimizer.zero_grad()
    model.update_teacher(0.99)


def test_a_step_with_fixed_shapes_asks_for_no_value(like_a_gpu):
    with FakeTensorMode():
        model = SLiM(CONFIG, 5, 3)
        step(model, build_optimizer(model.student, OptimConfig()), views(), True)


def test_this_would_notice(like_a_gpu):
    with FakeTensorMode():
        model = SLiM(CONFIG, 5, 3)
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            step(model, build_optimizer(model.student, OptimConfig()), views(), False)


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
