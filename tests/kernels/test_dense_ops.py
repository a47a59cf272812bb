"""norm_linear, linear_residual and norm_swiglu against PyTorch's functions one after the other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slim_kernels import linear_residual, norm_linear, norm_swiglu
from slim_kernels.feed_forward import cpu as feed_forward_cpu

from tests.kernels.dense_ops import assert_alike, inputs, projection, qkv, swiglu

PARTS = [(norm_swiglu, swiglu), (norm_linear, qkv), (linear_residual, projection)]


@pytest.mark.parametrize(("part", "composed"), PARTS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(0, 200),
    width=st.integers(2, 9),
    hidden=st.integers(1, 9),
)
def test_equal_their_composition(part, composed, seed, rows, width, hidden):
    torch.manual_seed(seed)
    assert_alike(part, composed, inputs(part, rows, width, hidden))


@pytest.mark.parametrize(("part", "composed"), PARTS)
def test_gradcheck(part, composed, monkeypatch):
    monkeypatch.setattr(feed_forward_cpu, "_CHUNK_NUMBERS", 1)
    assert torch.autograd.gradcheck(part, inputs(part, 3, 4, 3))


@pytest.mark.parametrize(("part", "composed"), PARTS)
def test_inputs_are_left_as_they_were_and_runs_are_bitwise_alike(part, composed):
    arguments = inputs(part, 130, 16, 24, torch.float32)
    copies = [a.detach().clone() for a in arguments]
    runs = []
    for _ in range(2):
        out = part(*arguments)
        runs.append([out.detach(), *torch.autograd.grad(out.square().sum(), arguments)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(arguments, copies, strict=True))


@pytest.mark.parametrize(("part", "composed"), PARTS)
def test_float32_at_the_published_width(part, composed):
    arguments = inputs(part, 40, 256, 688, torch.float32)
    scaled = [
        (a.detach() * 0.05).requires_grad_() if a.dim() == 2 and i else a
        for i, a in enumerate(arguments)
    ]
    exact = composed(*[a.double() for a in scaled])
    assert (part(*scaled) - exact).norm() < 1e-6 * exact.norm()


@pytest.mark.parametrize(("part", "composed"), PARTS)
def test_bfloat16_autocast(part, composed):
    arguments = inputs(part, 70, 32, 24, torch.float32)
    exact = composed(*[a.detach().double() for a in arguments])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = part(*arguments)
    out.float().sum().backward()
    assert (out.double() - exact).norm() < 2e-2 * exact.norm()
    assert all(a.grad.dtype == torch.float32 and a.grad.isfinite().all() for a in arguments)
