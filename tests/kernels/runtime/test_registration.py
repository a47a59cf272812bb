"""What every op registers: autocast's rule and FLOP formulas; and how the dispatcher chooses."""

from typing import Any

import pytest
import torch
from slim_kernels import linear_residual, norm_linear, norm_swiglu, packed_attention
from slim_kernels.runtime import dispatch
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip("triton", reason="the Triton kernels need triton")
from slim_kernels.attention import triton as attention_triton
from slim_kernels.embed_tokens import triton as embed_triton
from slim_kernels.feed_forward import triton as swiglu_triton
from slim_kernels.linear import triton as linear_triton
from slim_kernels.prototype_loss import triton as prototype_triton


@pytest.fixture
def kernels(monkeypatch):
    monkeypatch.setenv("SLIM_KERNELS", "triton")
    dispatch.warn_once.cache_clear()


def flops(run) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_autocast_takes_matrices_in_its_dtype_and_leaves_the_stream(kernels):
    x, gain, weight, bias = torch.randn(9, 16), torch.ones(16), torch.randn(8, 16), torch.randn(8)
    parts = [t.requires_grad_() for t in (x, gain, weight, bias)]
    with torch.autocast("cpu", dtype=torch.float16):
        hidden = norm_linear(x, gain, gain, weight, bias)
        out = linear_residual(hidden, torch.randn(16, 8), torch.zeros(16), x)
        fed = norm_swiglu(
            out, gain, gain, torch.randn(6, 16), torch.zeros(6), torch.randn(16, 3), torch.zeros(16)
        )
    assert [t.dtype for t in (hidden, out, fed)] == [torch.float16, torch.float32, torch.float32]
    assert all("slim_kernels" in t.grad_fn.name() for t in (hidden, out, fed))
    assert all(
        g.dtype == torch.float32 and g.isfinite().all()
        for g in torch.autograd.grad(fed.sum(), parts)
    )


def test_autocast_of_attention_and_of_the_loss(kernels):
    qkv, cu, time = (
        torch.randn(5, 3, 1, 16),
        torch.tensor([0, 5], dtype=torch.int32),
        torch.zeros(5, dtype=torch.int32),
    )
    prototypes = torch.nn.functional.normalize(torch.randn(9, 16), dim=1)
    rows = torch.nn.functional.normalize(torch.randn(4, 16), dim=1)
    options = (None, torch.ones(4), None, 0.1, 0.05, 3, None, 1 << 20, True, True)
    plain = prototype_triton.prototype_loss(rows, prototypes, rows, prototypes, *options)
    with torch.autocast("cpu", dtype=torch.float16):
        assert packed_attention(qkv, cu, 5, time=time).dtype == torch.float16
        again = prototype_triton.prototype_loss(rows, prototypes, rows, prototypes, *options)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_flops_are_those_of_the_products():
    x, gain, w, b = torch.randn(9, 16), torch.ones(16), torch.randn(8, 16), torch.zeros(8)
    forward = 2 * 9 * 16 * 8
    assert flops(lambda: linear_triton.norm_linear(x, gain, gain, w, b, 1e-6)) == forward
    assert flops(lambda: linear_triton.linear_residual(x, w, b, torch.zeros(9, 8))) == forward
    x.requires_grad_()

    def both_ways() -> None:
        linear_triton.norm_linear(x, gain, gain, w, b, 1e-6).sum().backward()

    assert flops(both_ways) == 2 * forward  # the weight is frozen
    w.requires_grad_()
    assert flops(both_ways) == 3 * forward
    w12, w3 = torch.randn(10, 16), torch.randn(16, 5)
    arguments = (x, gain, gain, w12, torch.zeros(10), w3, torch.zeros(16), 1e-6)
    assert flops(lambda: swiglu_triton.norm_swiglu(*arguments)) == 2 * 9 * (16 * 10 + 16 * 5)
    frozen = 2 * 9 * (2 * 16 * 10 + 16 * 5)
    assert (
        flops(lambda: swiglu_triton.norm_swiglu(*arguments).sum().backward())
        == 2 * 9 * 240 + frozen
    )
    w12.requires_grad_()
    w3.requires_grad_()
    recomputed = 2 * 9 * (3 * 16 * 10 + 2 * 16 * 5)
    assert (
        flops(lambda: swiglu_triton.norm_swiglu(*arguments).sum().backward())
        == 2 * 9 * 240 + recomputed
    )


def test_flops_of_attention_follow_lengths_and_visibility():
    qkv, time = torch.randn(9, 3, 2, 16), torch.zeros(9, dtype=torch.int32)
    cu = torch.tensor([0, 4, 9], dtype=torch.int32)
    visible = torch.tensor([1, 0, 1, 0, 1, 1, 0, 0, 0]).bool()
    angles = torch.zeros(2, 5, 8)

    def run(*where: Any) -> Any:
        return attention_triton.packed_attention(*where[:3], *angles, *where[3:])

    assert flops(lambda: run(qkv, cu, 5, time, None, None)) == 2 * 2 * 2 * 16 * (16 + 25)
    assert flops(lambda: run(qkv, cu, 5, time, visible, None)) == 2 * 2 * 2 * 16 * (4 * 2 + 5 * 2)
    qkv.requires_grad_()
    assert flops(
        lambda: run(qkv, cu, 5, time, None, None)[0].sum().backward()
    ) == 7 * 2 * 2 * 16 * (16 + 25)


def test_flops_of_the_embedding_and_of_the_loss():
    clips, parts = (
        [torch.randn(2, 8, 5, 3)],
        [torch.randn(s) for s in ((16, 3, 4), (16,), (16,), (5, 16), (1, 16))],
    )
    assert (
        flops(lambda: embed_triton.embed_tokens(clips, [torch.zeros(0).bool()], *parts, None))
        == 2 * 20 * 12 * 16
    )
    x, c = (
        torch.nn.functional.normalize(torch.randn(4, 8), dim=1),
        torch.nn.functional.normalize(torch.randn(9, 8), dim=1),
    )
    once = 2 * 4 * 9 * 8
    for budget, target, needed, products in (
        (0, None, (True, True), 13),
        (0, None, (True, False), 9),
        (0, None, (False, False), 8),
        (1 << 20, None, (True, True), 4),
        (1 << 20, None, (False, False), 2),
        (1 << 20, torch.arange(4)[:, None], (True, True), 6),
        (1 << 20, torch.arange(4)[:, None], (True, False), 4),
    ):
        options = (target, torch.ones(4), None, 0.1, 0.05, 3, None, budget, *needed)
        counted = flops(lambda o=options: prototype_triton.prototype_loss(x, c, x, c, *o))
        assert counted == products * once, options


def test_the_environment_chooses(monkeypatch):
    x = torch.randn(2, 16)
    monkeypatch.setenv("SLIM_KERNELS", "reference")
    assert not dispatch.uses_triton("op", x, x.dtype)
    for choice in ("", "triton"):  # unset: the kernels wherever they run, here in the interpreter
        monkeypatch.setenv("SLIM_KERNELS", choice)
        assert dispatch.uses_triton("op", x, x.dtype)
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert not dispatch.uses_triton("op", x, x.dtype)
    monkeypatch.setattr(dispatch, "TRITON_INSTALLED", False)
    with pytest.raises(ValueError, match="triton is not installed"):
        dispatch.uses_triton("op", x, x.dtype)
    monkeypatch.setenv("SLIM_KERNELS", "")
    assert not dispatch.uses_triton("op", x, x.dtype)
    monkeypatch.setenv("SLIM_KERNELS", "fast")
    with pytest.raises(ValueError, match="SLIM_KERNELS='fast' is not known"):
        dispatch.uses_triton("op", x, x.dtype)


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (
            lambda: norm_linear(*[torch.randn(s) for s in ((2, 300), 300, 300, (4, 300), 4)]),
            "300 features",
        ),
        (
            lambda: linear_residual(*[torch.randn(s) for s in ((2, 300), (4, 300), 4, (2, 4))]),
            "300 features",
        ),
        (
            lambda: norm_linear(*[torch.randn(s).bfloat16() for s in ((2, 8), 8, 8, (4, 8), 4)]),
            "bfloat16 products on",
        ),
    ],
)
def test_what_has_no_kernel_falls_back_with_one_warning(kernels, monkeypatch, run, why):
    def seeded() -> torch.Tensor:
        torch.manual_seed(0)
        return run()

    with pytest.warns(UserWarning, match=why) as caught:  # noqa: PT031 (the second call must be silent)
        got = seeded()
        seeded()
    assert len(caught) == 1
    monkeypatch.setenv("SLIM_KERNELS", "reference")
    assert torch.equal(got, seeded())


def test_autocast_leaves_float64_alone(kernels):
    x, gain, weight, bias = (torch.randn(s, dtype=torch.float64) for s in ((5, 16), 16, (8, 16), 8))
    with torch.autocast("cpu", dtype=torch.float16):
        assert norm_linear(x, gain, gain, weight, bias).dtype == torch.float64


def test_a_fall_back_compiles_in_one_graph(kernels):
    torch.compiler.reset()
    arguments = [torch.randn(s) for s in ((2, 300), 300, 300, (4, 300), 4)]
    compiled = torch.compile(norm_linear, fullgraph=True, backend="eager")
    with pytest.warns(UserWarning, match="300 features"):
        want = norm_linear(*arguments)
    torch.testing.assert_close(compiled(*arguments), want)


@pytest.mark.parametrize(
    "arguments",
    [
        {"x": torch.zeros(2, 8, dtype=torch.int64)},
        {"x": torch.zeros(2, 0), "weight": torch.zeros(4, 0)},
        {"bias": torch.zeros(3)},
        {"norm_weight": torch.zeros(7)},
    ],
)
def test_arguments_of_a_block_part_that_do_not_fit_are_named(arguments):
    sizes = {"x": (2, 8), "norm_weight": (8,), "norm_bias": (8,), "weight": (4, 8), "bias": (4,)}
    given = {name: torch.zeros(size) for name, size in sizes.items()} | arguments
    with pytest.raises(ValueError, match=f"norm_linear: {next(iter(arguments))} must"):
        norm_linear(**given)
