"""The Triton kernels of norm_linear, linear_residual and norm_swiglu, interpreted on the CPU,
against PyTorch.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from slim_kernels import norm_linear, norm_swiglu
from slim_kernels.linear import norm_linear_and_stream
from torch import Tensor
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("triton", reason="the Triton kernels need triton")
from slim_kernels.feed_forward import triton as swiglu_triton
from slim_kernels.linear import triton as linear_triton

EPS = 1e-6
# part -> the arguments that are multiplied as matrices and may be of a lower dtype than the others
MATRICES = {"norm_linear": {3}, "linear_residual": {0, 1}, "norm_swiglu": {3, 5}}
PARTS = list(MATRICES)


def kernels(part: str, arguments: list[Tensor]) -> Tensor:
    if part == "norm_linear":
        return linear_triton.norm_linear(*arguments, EPS)
    if part == "linear_residual":
        return linear_triton.linear_residual(*arguments)
    return swiglu_triton.norm_swiglu(*arguments, EPS)


def oracle(part: str, arguments: list[Tensor]) -> Tensor:
    if part == "linear_residual":
        x, weight, bias, residual = arguments
        return residual + x @ weight.t() + bias
    x, gain, shift, w12, b12, *rest = arguments
    hidden = F.linear(F.layer_norm(x, x.shape[-1:], gain, shift, EPS), w12, b12)
    if part == "norm_linear":
        return hidden
    gate, value = hidden.chunk(2, 1)
    return x + F.linear(gate * torch.sigmoid(gate) * value, *rest)


def inputs(
    part: str, rows: int, width: int, hidden: int, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    shapes = {
        "norm_linear": [(rows, width), (width,), (width,), (hidden, width), (hidden,)],
        "linear_residual": [(rows, width), (hidden, width), (hidden,), (rows, hidden)],
        "norm_swiglu": [
            (rows, width),
            (width,),
            (width,),
            (2 * hidden, width),
            (2 * hidden,),
            (width, hidden),
            (width,),
        ],
    }[part]
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


def assert_alike(part: str, arguments: list[Tensor], tolerance: float) -> None:
    got, want = kernels(part, arguments), oracle(part, arguments)
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
    upstream = torch.randn_like(want)
    both = (torch.autograd.grad(out, arguments, upstream) for out in (got, want))
    for ours, theirs in zip(*both, strict=True):
        largest = float(theirs.abs().max()) if theirs.numel() else 0.0
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * max(1.0, largest))


@pytest.mark.parametrize("part", PARTS)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.sampled_from([0, 1, 2, 63, 64, 65, 130]),
    width=st.sampled_from([1, 2, 15, 16, 17, 48]),
    hidden=st.sampled_from([1, 7, 16, 33, 64, 65]),
)
def test_equals_pytorch_over_shapes_around_the_tiles(part, seed, rows, width, hidden):
    torch.manual_seed(seed)
    assert_alike(part, inputs(part, rows, width, hidden), 1e-9)


@pytest.mark.parametrize("part", PARTS)
def test_float32_at_the_published_width(part):
    arguments = inputs(part, 70, 256, 256 if part == "linear_residual" else 344, torch.float32)
    scaled = [
        (a.detach() * 0.05).requires_grad_() if a.dim() == 2 and i else a
        for i, a in enumerate(arguments)
    ]
    assert_alike(part, scaled, 1e-4)


@pytest.mark.parametrize("part", PARTS)
def test_gradcheck(part):
    arguments = inputs(part, 3, 4, 5)
    assert torch.autograd.gradcheck(lambda *a: kernels(part, list(a)), arguments, fast_mode=True)


@pytest.mark.parametrize("part", PARTS)
def test_non_contiguous_inputs_and_gradients(part):
    arguments = inputs(part, 20, 16, 24)
    loose = [
        a.detach().t().contiguous().t().requires_grad_()
        if a.dim() == 2
        else a.detach().repeat_interleave(2)[::2].requires_grad_()
        for a in arguments
    ]
    outs = [kernels(part, a) for a in (arguments, loose)]
    assert torch.equal(*outs)
    upstream = torch.randn(outs[0].shape[::-1], dtype=torch.float64).t()
    grads = (
        torch.autograd.grad(o, a, upstream) for o, a in zip(outs, (arguments, loose), strict=True)
    )
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("part", PARTS)
def test_runs_are_bitwise_alike_and_inputs_stay(part):
    arguments = inputs(part, 70, 32, 40, torch.float32)
    copies = [a.detach().clone() for a in arguments]
    runs = []
    for _ in range(2):
        out = kernels(part, arguments)
        runs.append([out.detach(), *torch.autograd.grad(out.square().sum(), arguments)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(arguments, copies, strict=True))


@pytest.mark.parametrize("part", PARTS)
def test_a_float32_stream_with_float16_products(part):
    """As under autocast: weights of the lower dtype, the residual stream and norms of the higher
    one.
    """
    exact = inputs(part, 40, 32, 24, torch.float32)
    low = [
        (a.detach().half() if i in MATRICES[part] else a.detach()).requires_grad_()
        for i, a in enumerate(exact)
    ]
    want, got = oracle(part, exact), kernels(part, low)
    assert got.dtype == (torch.float16 if part == "norm_linear" else torch.float32)
    assert (got.float() - want).norm() < 3e-3 * want.norm()
    upstream = torch.randn_like(want)
    pairs = zip(
        torch.autograd.grad(got, low, upstream.to(got.dtype)),
        torch.autograd.grad(want, exact, upstream),
        low,
        strict=True,
    )
    for ours, theirs, argument in pairs:
        assert ours.dtype == argument.dtype
        assert (ours.float() - theirs).norm() < 5e-3 * theirs.norm() + 1e-6


@pytest.mark.parametrize("part", PARTS)
def test_a_second_derivative_is_refused_rather_than_wrong(part):
    arguments = inputs(part, 3, 4, 5)
    out = kernels(part, arguments)
    (grad,) = torch.autograd.grad(out.square().sum(), arguments[0], create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        grad.sum().backward()


@pytest.mark.parametrize("part", PARTS)
def test_registration_holds(part):
    arguments = inputs(part, 5, 4, 6, torch.float32)
    operation = {
        "norm_linear": linear_triton.norm_linear,
        "linear_residual": linear_triton.linear_residual,
        "norm_swiglu": swiglu_triton.norm_swiglu,
    }[part]
    backward = {
        "norm_linear": linear_triton.norm_linear_backward,
        "linear_residual": linear_triton.linear_residual_backward,
        "norm_swiglu": swiglu_triton.norm_swiglu_backward,
    }[part]
    eps = () if part == "linear_residual" else (EPS,)
    torch.library.opcheck(operation, (*arguments, *eps))
    plain = [a.detach() for a in arguments]
    grad = torch.randn_like(operation(*plain, *eps))
    inner = plain[:-1] if part == "linear_residual" else plain
    for wanted in ([True] * len(inner), [place % 2 == 0 for place in range(len(inner))]):
        stream = (torch.randn_like(plain[0]),) if part == "norm_linear" else ()
        torch.library.opcheck(backward, (grad, *inner, *stream, *eps, wanted))


class Recorded(TorchDispatchMode):
    """Names of PyTorch's operations with the results' shapes, those inside the ops included."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "slim_kernels":
            with self:  # calling the op itself would hide what it does
                return OPDEFS[func._schema.name]._init_fn(*args)
        with self:
            parts = func.decompose(*args, **(kwargs or {}))
        if parts is not NotImplemented:
            return parts
        result = func(*args, **(kwargs or {}))
        if func._schema.name in ("aten::mm", "aten::sum"):
            self.calls.append((func._schema.name, tuple(result.shape)))
        return result


# part -> the shapes of the products that give each argument's gradient
PRODUCTS = {
    "norm_linear": {0: (9, 16), 3: (24, 16)},
    "linear_residual": {0: (9, 16), 1: (24, 16)},
    "norm_swiglu": {0: (9, 16), 3: (48, 16), 5: (16, 24)},
}


@pytest.mark.parametrize("part", PARTS)
def test_frozen_arguments_cost_neither_product_nor_sum(part):
    """One argument at a time is trained; the others get no gradient, it the one it gets among
    all.
    """
    arguments = inputs(part, 9, 16, 24)
    upstream = torch.randn(9, 16 if part == "norm_swiglu" else 24, dtype=torch.float64)
    all_of_them = torch.autograd.grad(kernels(part, arguments), arguments, upstream)
    for trained, want in enumerate(all_of_them):
        leaves = [a.detach().requires_grad_(n == trained) for n, a in enumerate(arguments)]
        out = kernels(part, leaves)
        with Recorded() as recorded:
            out.backward(upstream)
        assert [a.grad is not None for a in leaves] == [n == trained for n in range(len(leaves))]
        assert torch.equal(leaves[trained].grad, want)
        norm = trained < 3 and part != "linear_residual"
        own = PRODUCTS[part].get(0 if norm else trained)
        products = [shape for name, shape in recorded.calls if name == "aten::mm"]
        # that of norm_linear's weight is of rows normalised by the kernel that norms' gradients are
        shared = [(9, 16)] if part == "norm_linear" and trained == 3 else []
        assert products == shared + ([] if own is None else [own])
        sums = [shape for name, shape in recorded.calls if name == "aten::sum"]
        vector = arguments[trained].dim() == 1
        assert sums == ([tuple(arguments[trained].shape)] if vector else [])


@pytest.mark.parametrize("part", ["norm_linear", "norm_swiglu"])
def test_rows_without_variance_at_eps_0(part, monkeypatch):
    """They are normalised to zeros and get no gradient through the norm, in a tile that is not
    full too.
    """
    arguments = inputs(part, 9, 16, 24, torch.float32)
    with torch.no_grad():
        arguments[0][3], arguments[0][5] = 0.0, 2.0
    public = {"norm_linear": norm_linear, "norm_swiglu": norm_swiglu}[part]
    found = []
    for choice in ("triton", "reference"):
        monkeypatch.setenv("SLIM_KERNELS", choice)
        out = public(*arguments, eps=0.0)
        found.append([out, *torch.autograd.grad(out.sum(), arguments)])
    for ours, theirs in zip(*found, strict=True):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    out, grad_x = found[0][:2]
    rest = out - arguments[0] if part == "norm_swiglu" else out
    assert torch.allclose(rest[3], rest[5], atol=1e-6)
    assert torch.equal(grad_x[3], torch.full((16,), float(part == "norm_swiglu")))
    # the others are as with PyTorch's norm
    monkeypatch.setattr(f"{__name__}.EPS", 0.0)
    keep = [n for n in range(9) if n not in (3, 5)]
    torch.testing.assert_close(out[keep], oracle(part, arguments)[keep], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("used", [(True, True), (True, False), (False, True)])
def test_gradients_of_the_stream_join_the_norms(used, monkeypatch):
    """norm_linear with x for the residual, of which either may be used or not."""
    monkeypatch.setenv("SLIM_KERNELS", "triton")
    arguments = inputs("norm_linear", 9, 16, 24)
    # the second is not contiguous
    upstream = torch.randn(9, 24).double(), torch.randn(16, 9).double().t()
    found = []
    for got in (
        norm_linear_and_stream(*arguments, EPS),
        (oracle("norm_linear", arguments), arguments[0]),
    ):
        total = sum(
            (out * g).sum() for out, g, is_used in zip(got, upstream, used, strict=True) if is_used
        )
        grads = torch.autograd.grad(total, arguments, allow_unused=True)
        found.append((*got, *[g for g in grads if g is not None]))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
