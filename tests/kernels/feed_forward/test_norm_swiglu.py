"""norm_swiglu's chunks of rows, and its gradients beside the usual (see also test_dense_ops.py)."""

import pytest
import torch
from slim_kernels import norm_swiglu
from slim_kernels.feed_forward import cpu as feed_forward_cpu

from tests.kernels.dense_ops import assert_alike, inputs, swiglu


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 128, 129])
def test_chunks_of_rows_meet_at_their_boundaries(rows, monkeypatch):
    monkeypatch.setattr(feed_forward_cpu, "_CHUNK_NUMBERS", 1)  # chunks of 64 rows
    assert_alike(norm_swiglu, swiglu, inputs(norm_swiglu, rows))


def test_zero_rows_give_zero_gradients():
    arguments = inputs(norm_swiglu, 0)
    out = norm_swiglu(*arguments)
    out.sum().backward()
    assert out.shape == (0, 6)
    assert all(torch.equal(a.grad, torch.zeros_like(a)) for a in arguments)


@pytest.mark.parametrize("upstream", ["expanded", "transposed", "strided"])
def test_non_contiguous_gradients_and_inputs(upstream):
    arguments = inputs(norm_swiglu, 70)
    loose = arguments[0].detach().t().contiguous().t().requires_grad_()
    grad = {
        "expanded": torch.ones((), dtype=torch.float64).expand(70, 6),
        "transposed": torch.randn(6, 70, dtype=torch.float64).t(),
        "strided": torch.randn(140, 12, dtype=torch.float64)[::2, ::2],
    }[upstream]
    expected = torch.autograd.grad(swiglu(*arguments), arguments, grad)
    before = grad.clone()
    got = torch.autograd.grad(norm_swiglu(loose, *arguments[1:]), [loose, *arguments[1:]], grad)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert torch.equal(grad, before)  # other consumers of the output get the same gradient


def test_a_backward_under_autocast_is_the_same():
    arguments = inputs(norm_swiglu, 70, 32, 24, torch.float32)
    out = norm_swiglu(*arguments)
    plain = torch.autograd.grad(out.square().sum(), arguments, retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = torch.autograd.grad(out.square().sum(), arguments)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_a_second_derivative_is_refused_rather_than_wrong():
    arguments = inputs(norm_swiglu, 3)
    (grad,) = torch.autograd.grad(
        norm_swiglu(*arguments).square().sum(), arguments[0], create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
