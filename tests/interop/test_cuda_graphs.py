"""CUDA graphs without a GPU: a recorded tape of operations, on a CPU that takes the GPU's path."""

import copy
import gc
import pickle
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from slim_kernels.blocks import attention as block_attention
from slim_kernels.runtime import arguments, tensor_cache
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from slim_fast import SLiMEncoder, UserError
from slim_fast.interop import cuda_graphs
from slim_fast.interop.cuda_graphs import CudaGraphs
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.packing import pack_sequences

CONFIG = EncoderConfig(width=32, depth=2, heads=2, registers=2)
READS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero")
READS += ("bincount", "equal", "_unique2")
# What `packing` makes of the host's numbers, whose way to a GPU no capture allows.
FROM_THE_HOST = ("cumsum", "lift_fresh", "lift_fresh_copy")


class Tape(TorchDispatchMode):
    """Stands in for torch.cuda.CUDAGraph: replays its operations into the tensors that the first
    pass made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        bools = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        assert name not in READS + FROM_THE_HOST, name
        assert not bools, "indexing with bools waits for their number"
        out = func(*args, **(kwargs or {}))
        mine = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        self.calls.append((func, args, kwargs or {}, mine))
        return out

    def replay(self) -> None:
        for func, args, kwargs, mine in self.calls:
            again = [x for x in tree_leaves(func(*args, **kwargs)) if isinstance(x, Tensor)]
            # views and what is changed in place are there
            if not any(r.alias_info for r in func._schema.returns):
                for old, new in zip(mine, again, strict=True):
                    old.copy_(new)

    def spoil(self) -> None:
        """Recording computes nothing."""
        for func, _, _, mine in self.calls:
            for x in mine:
                if x.is_floating_point() and not any(r.alias_info for r in func._schema.returns):
                    x.fill_(torch.nan)


class _Stream:
    def wait_stream(self, other: "_Stream") -> None:
        pass


@pytest.fixture
def captures(monkeypatch) -> list[Tape]:
    """Captures so far. torch.cuda is one that tapes, and encoders compute as on a GPU without
    Triton: attention is that which reads nothing on the host, and nobody looks into tensors.
    """
    made: list[Tape] = []

    @contextmanager
    def record(tape: Tape) -> Iterator[None]:
        made.append(tape)
        with monkeypatch.context() as patch, tape:
            # What records on a GPU is no such mode, and nothing is kept by the contents of a GPU's
            # tensors.
            patch.setattr(tensor_cache, "_get_current_dispatch_mode", lambda: None)
            patch.setattr(tensor_cache, "_plain", lambda x: not isinstance(x, Tensor))
            yield
        tape.spoil()

    for name, value in (
        ("CUDAGraph", Tape),
        ("graph", record),
        ("Stream", _Stream),
        ("current_stream", _Stream),
        ("stream", lambda _: nullcontext()),
        ("device", lambda _: nullcontext()),
    ):
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(block_attention, "uses_triton", lambda *_: True)
    attention = sys.modules["slim_kernels.attention"]
    monkeypatch.setattr(attention, "attend_by_length", attention.reference)
    for module in (arguments, sys.modules["slim_kernels.embed_tokens"]):
        monkeypatch.setattr(module, "contents_checked", lambda _: False)
    return made


@pytest.fixture
def pair(make_encoder) -> Callable[..., tuple[SLiMEncoder, SLiMEncoder]]:
    """The same encoder without and with graphs."""

    def make(**config: Any) -> tuple[SLiMEncoder, SLiMEncoder]:
        plain = make_encoder(config=EncoderConfig(**{**vars(CONFIG), **config})).requires_grad_(
            False
        )
        graphed = copy.deepcopy(plain)
        graphed._graphs = CudaGraphs()
        return plain, graphed

    return make


def clips(batch: int = 2, frames: int = 16) -> Tensor:
    x = torch.randn(batch, 3, frames, 5, 2)
    x[0, ..., 1] = 0
    return x


def mask() -> Tensor:
    return torch.arange(40).view(4, 10) % 3 == 0


ASKS: dict[str, Callable[[SLiMEncoder, Tensor], Any]] = {
    "forward": lambda e, x: e(x),
    "people told": lambda e, x: e(x, people=torch.tensor([[True, True], [False, True]])),
    "masked": lambda e, x: [e(x, hidden) for hidden in (mask(), ~mask())],
    "features": lambda e, x: e.forward_features(x, mask()),
    "layers": lambda e, x: e.get_intermediate_layers(
        x, [0, 1], norm=False, return_class_token=True
    ),
    "lengths": lambda e, x: e.forward_features([x, x[:1, :, :8]], [None, mask()[:2, :5]]),
}


@pytest.mark.parametrize("asked", ["all", "visible"])
@pytest.mark.parametrize("ask", ASKS)
def test_replayed_it_answers_as_without_graphs(captures, pair, ask, asked):
    plain, graphed = pair(attention=asked)
    inputs = [clips() for _ in range(3)]
    # all kept: a later replay must not change them
    answers = [tree_leaves(ASKS[ask](graphed, x)) for x in inputs]
    assert len(captures) == 1
    for x, got in zip(inputs, answers, strict=True):
        for a, b in zip(got, tree_leaves(ASKS[ask](plain, x)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_answers_are_the_callers_own_also_where_nobody_is_skipped(captures, pair):
    plain, graphed = pair()
    plain.skip_empty = graphed.skip_empty = False
    x, y = clips(), clips()
    pairs = [(graphed(x), plain(x)), (graphed(y), plain(y))]
    for got, want in pairs:
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_one_graph_for_each_shape_dtype_and_question(captures, pair):
    plain, graphed = pair()
    inputs = [clips(), clips(), clips(3), clips(2, 24), clips()]
    for x in inputs * 2:
        torch.testing.assert_close(graphed(x), plain(x), rtol=1e-4, atol=1e-4)
    assert len(captures) == 3
    graphed(inputs[0], mask())
    graphed.forward_features(inputs[0])
    assert len(captures) == 5
    graphed.get_intermediate_layers(inputs[0], 1)
    graphed.get_intermediate_layers(inputs[0], 1, norm=False)
    assert len(captures) == 7
    graphed.get_intermediate_layers(inputs[1], [1])
    assert graphed(inputs[0].double()).dtype == torch.float64  # computed in the weights' precision
    none = clips()[:0]
    assert graphed(none).shape == plain(none).shape == (0, 32)
    assert len(captures) == 7


def test_autocast_has_graphs_of_its_own(captures, pair, monkeypatch):
    _, graphed = pair()
    on = {"cuda": False}
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: on[device])
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda _: torch.bfloat16)
    run = lambda x, _: [[2 * t for t in x]]  # noqa: E731
    calls = graphed._graphs
    for on["cuda"] in (False, True, False):
        calls(run, [torch.ones(2)], [None], "key")
    assert len(captures) == 2


def test_inference_mode_first_and_gradients_later(captures, pair):
    plain, graphed = pair()
    x, y = clips(), clips().requires_grad_()
    with torch.inference_mode():
        torch.testing.assert_close(graphed(x), plain(x), rtol=1e-4, atol=1e-4)
    got = graphed(y)
    assert not got.requires_grad
    torch.testing.assert_close(got, plain(y).detach(), rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(graphed(y), plain(y), rtol=1e-4, atol=1e-4)
    assert len(captures) == 1


def test_weights_may_change_in_place_and_moved_they_are_captured_again(captures, pair):
    plain, graphed = pair()
    x = clips()
    graphed(x)
    for encoder in (plain, graphed):
        encoder.load_state_dict(
            {name: 1.1 * tensor for name, tensor in encoder.state_dict().items()}
        )
    torch.testing.assert_close(graphed(x), plain(x), rtol=1e-4, atol=1e-4)
    assert len(captures) == 1
    torch.testing.assert_close(
        graphed.half().float()(x), plain.half().float()(x), rtol=1e-4, atol=1e-4
    )
    assert len(captures) == 2
    for other in (copy.deepcopy(graphed), pickle.loads(pickle.dumps(graphed))):
        count = len(captures)
        torch.testing.assert_close(other(x), plain(x), rtol=1e-4, atol=1e-4)
        assert len(captures) == count + 1


class _Nothing:
    """A graph that holds on to nothing, as those of CUDA."""

    def replay(self) -> None:
        pass


def test_a_graph_keeps_alive_what_it_reads(captures, pair, monkeypatch):
    monkeypatch.setattr(torch.cuda, "CUDAGraph", _Nothing)
    monkeypatch.setattr(torch.cuda, "graph", lambda _: nullcontext())
    _, graphed = pair()
    graphed(clips(7))
    bounds = weakref.ref(pack_sequences(((14, 2),), 3, 5, torch.device("cpu")).cu_seqlens)
    for length in range(1, 100):
        pack_sequences(((length, 1),), 3, 5, torch.device("cpu"))  # more than are kept
    gc.collect()
    assert bounds() is not None
    graphed._graphs = None
    gc.collect()
    assert bounds() is None


def test_the_tape_would_notice_a_host_read_and_a_table_made_too_late(captures, pair, monkeypatch):
    _, graphed = pair()
    with pytest.raises(AssertionError, match="_local_scalar_dense"):
        graphed._graphs(lambda x, _: [[x[0] * float(x[0].sum())]], [torch.ones(2)], [None], "key")
    monkeypatch.setattr(cuda_graphs, "_WARM_UPS", 0)
    with pytest.raises(AssertionError, match="cumsum"):
        graphed(clips(11))


@pytest.mark.parametrize("kernels", ["reference", "triton"])
@pytest.mark.parametrize("asked", ["all", "visible"])
@pytest.mark.parametrize("ask", ASKS)
def test_no_value_is_asked_for(captures, monkeypatch, ask, asked, kernels):
    """With tensors that hold no data, whatever wants to know a value, or a size that depends on
    one, raises.
    """
    if kernels == "triton":
        pytest.importorskip("triton", reason="the Triton kernels need triton")
    monkeypatch.setenv("SLIM_KERNELS", kernels)
    monkeypatch.setattr(torch.cuda, "graph", lambda _: nullcontext())
    # redraws by what it drew
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda tensor, std: tensor)
    with FakeTensorMode():
        encoder = SLiMEncoder(
            5, config=EncoderConfig(**{**vars(CONFIG), "attention": asked})
        ).eval()
        encoder.requires_grad_(False)
        x = torch.randn(2, 3, 16, 5, 2)
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            ASKS["forward"](encoder, x)  # without graphs, the absent are counted
        encoder._graphs = CudaGraphs()
        assert tree_leaves(ASKS[ask](encoder, x))


def test_hooks_which_a_replay_would_not_call_are_refused(make_encoder):
    encoder = make_encoder()
    handle = encoder.blocks[0].mlp.register_forward_hook(lambda *_: None)
    with pytest.raises(UserError, match="calls no hooks: remove them first"):
        encoder.optimize(cuda_graphs=True)
    handle.remove()
    with pytest.raises(UserError, match="needs the encoder on CUDA"):
        encoder.optimize(cuda_graphs=True)
