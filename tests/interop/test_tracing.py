"""torch.jit.trace, and the FLOP counters that go by it (fvcore's, mmengine's), take encoders,
classifiers, adapters.
"""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.flops.closed_form import slim_encoder
from slim_fast import SLiMClassifier, SLiMEncoder, UserError
from slim_fast.interop.ctrgcn import Model
from slim_fast.interop.mamp import Transformer
from slim_fast.interop.mmaction2 import SLiM as MMActionBackbone
from slim_fast.interop.pyskl import SLiM as PYSKLBackbone
from slim_fast.interop.skateformer import SkateFormer
from slim_fast.interop.timm import slim_tiny
from slim_fast.model.encoder import EncoderConfig


def plainly(x: Tensor) -> Tensor:
    return x


def people_first(x: Tensor) -> Tensor:
    return x.permute(0, 4, 2, 3, 1)


# how it is made of a checkpoint, and how it takes clips (B, C, T, V, M)
MODELS: dict[str, tuple[Any, Any]] = {
    "encoder": (SLiMEncoder.from_pretrained, plainly),
    "classifier": (lambda path: SLiMClassifier.from_pretrained(path, num_classes=4), plainly),
    "ctrgcn": (lambda path: Model(4, pretrained=path), plainly),
    "mamp": (lambda path: Transformer(num_classes=4, pretrained=path), plainly),
    "skateformer": (
        lambda path: SkateFormer(num_classes=4, num_points=24, pretrained=path),
        lambda x: x[:, :, :, :24],
    ),
    "timm": (lambda path: slim_tiny(path, num_classes=4), plainly),
    "pyskl": (lambda path: PYSKLBackbone(pretrained=path), people_first),
    "mmaction2": (lambda path: MMActionBackbone(pretrained=path), people_first),
}


def crowd(batch: int, frames: int, people: int) -> Tensor:
    x = torch.randn(batch, 3, frames, 25, people)
    x[-1, ..., 1:] = 0
    return x


def traced(model: nn.Module, x: Tensor) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "`torch.jit.trace", DeprecationWarning)
        return torch.jit.trace(model, (x,), check_trace=False)


@pytest.mark.parametrize("name", MODELS)
def test_a_trace_answers_the_same_at_every_size_without_a_warning(name, make_encoder, tmp_path):
    make_encoder("ntu-25").save_pretrained(tmp_path)
    make, laid = MODELS[name]
    model = make(str(tmp_path)).eval()
    program = traced(model, laid(crowd(2, 16, 2)))
    for sizes in ((2, 16, 2), (3, 40, 2), (1, 8, 3)):
        x = laid(crowd(*sizes))
        torch.testing.assert_close(program(x), model(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(RuntimeError):
        program(laid(crowd(2, 12, 2)))


def test_masks_and_visible_attention_are_traced(make_encoder):
    config = EncoderConfig(width=16, depth=2, heads=2, registers=2, attention="visible")
    model, x = make_encoder(config=config), torch.randn(2, 3, 16, 5, 1)
    program = torch.jit.trace(model, (x, torch.rand(2, 10) < 0.5), check_trace=False)
    masks = torch.rand(2, 10) < 0.5
    torch.testing.assert_close(program(x, masks), model(x, masks), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(program(x, ~masks), model(x, masks), atol=1e-2)


def test_an_optimized_encoder_is_refused(make_encoder):
    with pytest.raises(UserError, match=r"can't be traced or exported.*optimize\(\) was called on"):
        torch.jit.trace(make_encoder().optimize(), (torch.randn(1, 3, 16, 5, 1),))


def macs_of_a_trace(model: nn.Module, x: Tensor) -> int:
    """Multiply-adds of the products in the graph, as fvcore and mmengine count them."""
    graph, total = torch.jit.trace(model, (x,), check_trace=False).inlined_graph, 0
    for node in graph.nodes():
        sizes = [
            value.type().sizes()
            for value in node.inputs()
            if isinstance(value.type(), torch.TensorType)
        ]
        out = [
            value.type().sizes()
            for value in node.outputs()
            if isinstance(value.type(), torch.TensorType)
        ]
        if node.kind() in ("aten::linear", "aten::matmul"):
            total += torch.Size(out[0]).numel() * sizes[0][-1]
        elif node.kind() == "aten::_convolution":
            total += torch.Size(out[0]).numel() * torch.Size(sizes[1][1:]).numel()
        assert "attention" not in node.kind()
        assert "PythonOp" not in node.kind()
    return total


@pytest.mark.parametrize(("people", "present"), [(1, 1), (2, 1)])
def test_counts_are_the_closed_forms(people, present):
    """Absent people are computed in a trace, and left out where the encoder runs."""
    encoder, x = SLiMEncoder().eval(), torch.randn(1, 3, 64, 25, people)
    x[..., present:] = 0
    products = slim_encoder(EncoderConfig(), 64).matmuls
    assert 2 * macs_of_a_trace(encoder, x) == people * products
    for grad in (False, True):
        with torch.set_grad_enabled(grad), FlopCounterMode(display=False) as counter:
            encoder.forward_features(x)
        assert counter.get_total_flops() == present * products
    encoder.blocks[3].attn.register_forward_hook(lambda *_: None)  # which calls that block's layers
    with FlopCounterMode(display=False) as counter:
        encoder.forward_features(x)
    assert counter.get_total_flops() == present * products


def test_fvcore_counts_them():
    fvcore = pytest.importorskip("fvcore.nn", reason="fvcore is not installed")
    x = torch.randn(1, 3, 64, 25, 1)
    for model, head in ((SLiMEncoder().eval(), 0), (SLiMClassifier(60).eval(), 512 * 60)):
        count = fvcore.FlopCountAnalysis(model, x).unsupported_ops_warnings(False)
        kinds = count.by_operator()
        assert (
            2 * (kinds["linear"] + kinds["matmul"] + kinds["conv"] - head)
            == slim_encoder(EncoderConfig(), 64).matmuls
        )
        assert count.uncalled_modules() <= {"head"}  # an encoder's, the identity, leaves no trace
        blocks = count.by_module()
        assert blocks["blocks.0"] == blocks["blocks.7"] > 0


def test_mmengine_counts_them():
    analysis = pytest.importorskip("mmengine.analysis", reason="mmengine is not installed")
    found = analysis.get_model_complexity_info(SLiMEncoder().eval(), input_shape=(3, 64, 25, 1))
    norms = found["flops"] - slim_encoder(EncoderConfig(), 64).matmuls / 2
    assert 0 < norms < 0.01 * found["flops"]
    assert found["params"] == 6_368_768
