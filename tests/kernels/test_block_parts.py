"""norm_linear, linear_residual and norm_swiglu against PyTorch's own functions one after the other."""

from collections.abc import Callable

import pytest
import slim_kernels.block
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from slim_kernels import linear_residual, norm_linear, norm_swiglu
from torch import Tensor

Part = Callable[..., Tensor]


def swiglu(x: Tensor, gamma: Tensor, beta: Tensor, w12: Tensor, b12: Tensor, w3: Tensor, b3: Tensor) -> Tensor:
    hidden = F.linear(F.layer_norm(x, x.shape[-1:], gamma, beta, 1e-6), w12, b12)
    gate, value = hidden[:, : w3.shape[1]], hidden[:, w3.shape[1] :]
    return x + F.linear(gate / (1 + torch.exp(-gate)) * value, w3, b3)


def qkv(x: Tensor, gamma: Tensor, beta: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    return (normed * gamma + beta) @ weight.t() + bias


def projection(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    return residual + x @ weight.t() + bias


def shapes(part: Part, rows: int, width: int, hidden: int) -> list[tuple[int, ...]]:
    norm = [(width,), (width,)]
    if part is norm_swiglu:
        return [(rows, width), *norm, (2 * hidden, width), (2 * hidden,), (width, hidden), (width,)]
    if part is norm_linear:
        return [(rows, width), *norm, (hidden, width), (hidden,)]
    return [(rows, width), (hidden, width), (hidden,), (rows, hidden)]


def inputs(part: Part, rows: int, width: int = 6, hidden: int = 5, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes(part, rows, width, hidden)]


PARTS = [(norm_swiglu, swiglu), (norm_linear, qkv), (linear_residual, projection)]


def assert_alike(part: Part, composed: Part, arguments: list[Tensor], tolerance: float = 1e-10) -> None:
    got, expected = part(*arguments), composed(*arguments)
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
    upstream = torch.randn_like(expected)
    grads = [torch.autograd.grad(out, arguments, upstream) for out in (got, expected)]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("part", "composed"), PARTS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(0, 200), width=st.integers(2, 9), hidden=st.integers(1, 9))
def test_equal_their_composition(part, composed, seed, rows, width, hidden):
    torch.manual_seed(seed)
    assert_alike(part, composed, inputs(part, rows, width, hidden))


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 128, 129])
def test_chunks_of_rows_meet_at_their_boundaries(rows, monkeypatch):
    monkeypatch.setattr(slim_kernels.block, "_CHUNK_NUMBERS", 1)  # chunks of 64 rows
    assert_alike(norm_swiglu, swiglu, inputs(norm_swiglu, rows))


@pytest.mark.parametrize(("part", "composed"), PARTS)
def test_gradcheck(part, composed, monkeypatch):
    monkeypatch.setattr(slim_kernels.block, "_CHUNK_NUMBERS", 1)
    assert torch.autograd.gradcheck(part, inputs(part, 3, 4, 3))


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


def test_a_backward_under_autocast_is_the_same():
    arguments = inputs(norm_swiglu, 70, 32, 24, torch.float32)
    out = norm_swiglu(*arguments)
    plain = torch.autograd.grad(out.square().sum(), arguments, retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = torch.autograd.grad(out.square().sum(), arguments)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_a_second_derivative_is_refused_rather_than_wrong():
    arguments = inputs(norm_swiglu, 3)
    (grad,) = torch.autograd.grad(norm_swiglu(*arguments).square().sum(), arguments[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize(("part", "composed"), PARTS)
def test_float32_at_the_published_width(part, composed):
    arguments = inputs(part, 40, 256, 688, torch.float32)
    scaled = [(a.detach() * 0.05).requires_grad_() if a.dim() == 2 and i else a for i, a in enumerate(arguments)]
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
