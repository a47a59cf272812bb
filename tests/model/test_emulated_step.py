"""A whole training step, and the shared checkpoint's features, by the kernels as they are compiled
for a GPU.
"""

import copy
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="compiling kernels needs triton")
from slim_kernels.check.run import emulate

from slim_fast import SLiMEncoder
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.heads import HeadConfig
from slim_fast.model.slim import ModelConfig, SLiM
from slim_fast.views.pipeline import ViewBatch, ViewGroup

SHARED = Path(
    os.environ.get("SLIM_FAST_SHARED", Path(__file__).resolve().parents[2].parent / "shared")
)
OTHERS = [("visible", 80), ("all", 80), ("visible", 90)]
CASES = [("all", 90), *(pytest.param(*c, marks=pytest.mark.long) for c in OTHERS)]


def error(got: Tensor, exact: Tensor) -> float:
    return float((got.double() - exact.double()).norm() / exact.double().norm().clamp(min=1e-30))


def step(
    model: SLiM, views: ViewBatch, bf16: bool, fixed: bool
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """The losses and the gradients of one step."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        losses = model(views, 0.05, fixed_shapes=fixed)
    losses["loss"].backward()
    gradients = {n: p.grad for n, p in model.student.named_parameters() if p.grad is not None}
    return {name: value.item() for name, value in losses.items()}, gradients


@pytest.mark.parametrize(("attention", "capability"), CASES)
def test_a_training_step(attention, capability, thorough, monkeypatch) -> None:
    """Of the cases one is in the tests as they are run by default, and once: not bit by bit."""
    encoder = EncoderConfig(width=64, depth=2, heads=2, attention=attention)
    head = HeadConfig(hidden=128, bottleneck=64, prototypes=100)
    model = SLiM(ModelConfig(encoder=encoder, head=head), 25, 3)
    for parameter in model.student.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    clips, samples = 4, ((64, 2), (32, 2), (8, 2))
    groups = [
        ViewGroup(w, 0.3 * torch.randn(clips, n, w, 25, 3), torch.rand(clips, n, w // 8, 25) < 0.6)
        for w, n in samples
    ]
    groups[0].mask[:, 1] = False  # a global view without masked tokens
    views = ViewBatch(groups, torch.arange(clips), 0, clips * 200)
    wide = ViewBatch(
        [ViewGroup(g.window, g.clips.double(), g.mask) for g in groups], views.clip, 0, clips * 200
    )
    exact_losses, exact = step(copy.deepcopy(model).double(), wide, bf16=False, fixed=False)
    monkeypatch.setenv("SLIM_KERNELS", "reference")
    _, eager = step(copy.deepcopy(model), views, bf16=True, fixed=False)
    monkeypatch.setenv("SLIM_KERNELS", "")
    with emulate(capability) as gpu:
        losses, gradients = step(copy.deepcopy(model), views, bf16=True, fixed=attention == "all")
        again, same = losses, gradients
        if thorough:
            again, same = step(copy.deepcopy(model), views, bf16=True, fixed=attention == "all")
    assert len({kernel.name for kernel in gpu.kernels}) >= 10
    for name, value in exact_losses.items():
        assert losses[name] == pytest.approx(value, rel=5e-3, abs=1e-4), name
    assert gradients.keys() == exact.keys() == eager.keys()
    for name, gradient in exact.items():
        assert error(gradients[name], gradient) <= 3 * error(eager[name], gradient) + 1e-3, name
    assert losses == again
    assert all(torch.equal(gradients[name], same[name]) for name in gradients)


@pytest.mark.skipif(
    not (SHARED / "parity").is_dir(), reason=f"{SHARED}/parity is missing: set SLIM_FAST_SHARED"
)
@pytest.mark.parametrize("capability", [pytest.param(80, marks=pytest.mark.long), 90])
@pytest.mark.parametrize("frames", [8, pytest.param(64, marks=pytest.mark.long)])
def test_the_shared_checkpoint(frames, capability, monkeypatch) -> None:
    encoder = SLiMEncoder.from_pretrained(SHARED / "parity").eval()
    with np.load(SHARED / "parity" / "expected.npz", allow_pickle=False) as file:
        expected = {name: torch.from_numpy(file[name]) for name in file}
    monkeypatch.setenv("SLIM_KERNELS", "")
    with emulate(capability), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        layers = encoder.get_intermediate_layers(
            expected[f"clips_{frames}"].float(), 4, return_class_token=True
        )
    for number, (patches, cls) in enumerate(layers):
        assert error(patches, expected[f"patch_{frames}_{number}"]) < 2e-2
        assert error(cls, expected[f"cls_{frames}_{number}"]) < 3e-2
