"""The whole encoder through torch.compile without graph breaks and through torch.export, against
itself.
"""

import pytest
import torch
from torch import Tensor

from slim_fast import SLiMEncoder
from slim_fast.model.encoder import EncoderConfig

CONFIG = EncoderConfig(width=32, depth=2, heads=2, registers=2)


def encoder() -> SLiMEncoder:
    model = SLiMEncoder(5, config=CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(params=["reference", "triton"])
def backend(request, monkeypatch):
    if request.param == "triton":
        pytest.importorskip("triton", reason="the Triton kernels need triton")
    monkeypatch.setenv("SLIM_KERNELS", request.param)
    torch.compiler.reset()
    return request.param


@pytest.mark.parametrize(
    "backend", [pytest.param("reference", marks=pytest.mark.long), "triton"], indirect=True
)
def test_forward_and_backward_compile_in_one_graph(backend):
    model = encoder()
    views = [torch.randn(3, 16, 5, 3), torch.randn(2, 8, 5, 3)]
    masks = [torch.rand(3, 2, 5) < 0.5, None]

    def run(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
        return model.encode_packed([a, b], [mask, None])[0]

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    outs = [function(*views, masks[0]) for function in (run, compiled)]
    torch.testing.assert_close(*outs, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(outs[0])
    both = (torch.autograd.grad(out, list(model.parameters()), upstream) for out in outs)
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_other_batches_and_lengths_compile_too(backend):
    model = encoder().eval()
    compiled = torch.compile(
        lambda x: model.get_intermediate_layers(x, 2, return_class_token=True),
        fullgraph=True,
        backend="aot_eager",
    )
    with torch.no_grad():
        for batch, frames in ((2, 16), (3, 16), (3, 24), (4, 8)):
            clips = torch.randn(batch, 3, frames, 5, 2)
            pairs = zip(
                compiled(clips),
                model.get_intermediate_layers(clips, 2, return_class_token=True),
                strict=True,
            )
            for got, want in pairs:
                torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_export_with_free_batch(backend):
    class Features(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder()

        def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
            return self.encoder.get_intermediate_layers(clips, 1, return_class_token=True)[0]

    module = Features().eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(
        module, (torch.randn(3, 3, 16, 5, 2),), dynamic_shapes=({0: batch},)
    )
    for size in (1, 3, 5):
        clips = torch.randn(size, 3, 16, 5, 2)
        for got, want in zip(exported.module()(clips), module(clips), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_training_after_inference_mode(backend):
    """What is kept from one call to the next must not be an inference tensor."""
    model, clips = encoder(), torch.randn(2, 3, 40, 5, 1)
    with torch.inference_mode():
        model.get_intermediate_layers(clips)
    model.get_intermediate_layers(clips)[0].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
