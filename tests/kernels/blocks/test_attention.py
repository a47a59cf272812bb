"""norm_attention against LayerNorm, a linear map and packed_attention one after the other in
float64.
"""

import pytest
import slim_kernels.blocks.inference.attention
import slim_kernels.blocks.training
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from slim_kernels import attention_residual, norm_attention, packed_attention
from torch import Tensor

Problem = tuple[list[Tensor], dict[str, object]]


def problem(
    lengths: list[int], heads: int = 2, d: int = 4, dtype: torch.dtype = torch.float64
) -> Problem:
    """Differentiable arguments (x, norm, linear map), and where the sequences lie."""
    width, total = heads * d, sum(lengths)
    shapes = [(total, width), (width,), (width,), (3 * width, width), (3 * width,)]
    time = torch.cat([torch.arange(n) // 2 - 1 for n in lengths] or [torch.zeros(0)]).to(
        torch.int32
    )
    layout = {
        "cu_seqlens": torch.tensor([0, *lengths]).cumsum(0).to(torch.int32),
        "max_seqlen": max(lengths, default=0),
        "time": time,
        "heads": heads,
    }
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes], layout


def composed(arguments: list[Tensor], layout: dict[str, object]) -> Tensor:
    x, gamma, beta, weight, bias = arguments
    qkv = F.linear(F.layer_norm(x, x.shape[-1:], gamma, beta, 1e-6), weight, bias)
    heads, rest = (
        layout["heads"],
        {name: value for name, value in layout.items() if name != "heads"},
    )
    return packed_attention(qkv.view(len(x), 3, heads, x.shape[1] // heads), **rest).flatten(1)


def asked(lengths: list[int], queries: Tensor) -> Tensor:
    """(total,) bool: the tokens that `queries` asks for."""
    return torch.cat(
        [torch.arange(n) < q for n, q in zip(lengths, queries.tolist(), strict=True)]
    ).bool()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    lengths=st.lists(st.sampled_from([0, 1, 2, 3, 3, 5, 8]), min_size=1, max_size=7),
    heads=st.integers(1, 3),
    half=st.integers(1, 3),
    chunk=st.sampled_from([1, 60, 1 << 18]),
    ask=st.booleans(),
    hide=st.booleans(),
)
def test_equals_its_parts_and_so_do_its_gradients(seed, lengths, heads, half, chunk, ask, hide):
    torch.manual_seed(seed)
    arguments, layout = problem(lengths, heads, 2 * half)
    if seed % 2:  # times that differ between sequences of one length
        layout["time"] = torch.randint(-1, 9, layout["time"].shape, dtype=torch.int32)
        layout["max_seqlen"] = 9
    if hide:
        layout["visible"] = torch.rand(sum(lengths)) < 0.5
        layout["visible"][
            [int(b) for b, n in zip(layout["cu_seqlens"], lengths, strict=False) if n]
        ] = True
    queries = (
        torch.where(torch.rand(len(lengths)) < 0.5, 1, torch.tensor(lengths))
        if ask
        else torch.tensor(lengths)
    )
    kept = asked(lengths, queries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slim_kernels.blocks.training, "_CHUNK_NUMBERS", chunk)
        got = norm_attention(*arguments, **layout, queries=queries if ask else None)
        upstream = torch.randn_like(got)
        grads = torch.autograd.grad(got[kept], arguments, upstream[kept])
        patch.setattr(slim_kernels.blocks.inference.attention, "_CHUNK_TOKENS", chunk % 1000)
        patch.setattr(slim_kernels.blocks.inference.attention, "_CHUNK_SCORES", chunk)
        with torch.no_grad():
            without_gradients = norm_attention(
                *arguments, **layout, queries=queries if ask else None
            )
    want = composed(arguments, layout)
    torch.testing.assert_close(got[kept], want[kept], rtol=1e-10, atol=1e-10)
    assert not got[~kept].any()
    torch.testing.assert_close(without_gradients, got, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(
        grads, torch.autograd.grad(want[kept], arguments, upstream[kept]), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


def test_gradcheck():
    arguments, layout = problem([3, 0, 1, 3])
    queries = torch.tensor([1, 1, 1, 3])
    kept = asked([3, 0, 1, 3], queries)
    assert torch.autograd.gradcheck(
        lambda *a: norm_attention(*a, **layout, queries=queries)[kept], arguments
    )


def test_rows_that_nobody_asked_for_take_no_gradient():
    arguments, layout = problem([4, 4])
    out = norm_attention(*arguments, **layout, queries=torch.tensor([1, 1]))
    upstream = torch.zeros_like(out)
    upstream[1:4] = 1
    assert not any(grad.any() for grad in torch.autograd.grad(out, arguments, upstream))


def test_no_sequence_reads_another():
    arguments, layout = problem([5, 5, 3])
    before = norm_attention(*arguments, **layout)
    with torch.no_grad():
        arguments[0][5:10] = torch.randn(5, 8)
    after = norm_attention(*arguments, **layout)
    assert torch.equal(before[:5], after[:5])
    assert torch.equal(before[10:], after[10:])
    assert not torch.equal(before[5:10], after[5:10])


def test_runs_are_bitwise_alike_and_leave_their_inputs_alone():
    arguments, layout = problem([55, 55, 30, 105], 2, 32, torch.float32)
    copies = [a.detach().clone() for a in arguments]
    runs = []
    for _ in range(2):
        out = norm_attention(*arguments, **layout)
        runs.append([out.detach(), *torch.autograd.grad(out.square().sum(), arguments)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(arguments, copies, strict=True))


@pytest.mark.parametrize(("autocast", "tolerance"), [(False, 2e-6), (True, 2e-2)])
def test_error_at_the_published_sizes(autocast, tolerance):
    lengths = [205, 105, 55, 30]
    arguments, layout = problem(lengths, 8, 32, torch.float32)
    with torch.no_grad():
        arguments[3] *= 0.05
    upstream = torch.randn(sum(lengths), 256)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = norm_attention(*arguments, **layout)
    assert out.dtype == (torch.bfloat16 if autocast else torch.float32)
    exact_arguments = [a.detach().double().requires_grad_() for a in arguments]
    exact = composed(exact_arguments, layout)
    pairs = [
        (out, exact),
        *zip(
            torch.autograd.grad(out, arguments, upstream.to(out.dtype)),
            torch.autograd.grad(exact, exact_arguments, upstream.double()),
            strict=True,
        ),
    ]
    for got, want in pairs:
        assert (got.double() - want).norm() < tolerance * want.norm()


def test_a_backward_under_autocast_is_the_same():
    arguments, layout = problem([20, 20], 2, 8, torch.float32)
    out = norm_attention(*arguments, **layout)
    plain = torch.autograd.grad(out.square().sum(), arguments, retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = torch.autograd.grad(out.square().sum(), arguments)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"cu_seqlens": torch.tensor([0, 4])},
            "end at the number of tokens, 6; it begins with 0 and ends at 4",
        ),
        ({"heads": 3}, "multiple of 2 heads; got 3"),
        ({"heads": 8}, "multiple of 2 heads; got 8"),
        ({"time": torch.zeros(5)}, "time must be of shape \\(6,\\)"),
        ({"queries": torch.tensor([2])}, "got 2 of 6"),
        ({"visible": torch.zeros(6, dtype=torch.bool)}, "sequence 0 has no visible token"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    arguments, layout = problem([6])
    with pytest.raises(ValueError, match=message):
        norm_attention(*arguments, **{**layout, **change})


def test_rows_without_variance_at_eps_0():
    x = torch.randn(5, 8)
    x[2] = 3
    weight, bias = torch.randn(24, 8), torch.randn(24)
    where = {"cu_seqlens": torch.tensor([0, 5], dtype=torch.int32), "max_seqlen": 5}
    where["time"] = torch.zeros(5, dtype=torch.int32)
    out = norm_attention(
        x.requires_grad_(), torch.ones(8), torch.zeros(8), weight, bias, heads=2, eps=0.0, **where
    )
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert out.isfinite().all()
    assert grad.isfinite().all()
    assert not grad[2].any()


@pytest.mark.parametrize("choice", ["reference", "triton"])
def test_attention_residual_is_what_it_is_made_of(choice, monkeypatch):
    monkeypatch.setenv("SLIM_KERNELS", choice)
    arguments, layout = problem([3, 5, 1], d=16)
    proj = [torch.randn(32, 32, dtype=torch.float64), torch.randn(32, dtype=torch.float64)]
    proj = [x.requires_grad_() for x in proj]
    rows, queries = torch.tensor([0, 3, 8, 4, 6]), torch.tensor([1, 5, 1])
    given, where = [*arguments, *proj], [layout.pop("cu_seqlens"), layout.pop("max_seqlen")]
    got = attention_residual(*given, *where, **layout, queries=queries, rows=rows)
    attended = composed(arguments, {**layout, "cu_seqlens": where[0], "max_seqlen": where[1]})
    want = (arguments[0] + F.linear(attended, *proj))[rows]
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    upstream = torch.randn_like(want)
    for ours, theirs in zip(
        *(torch.autograd.grad(out, given, upstream) for out in (got, want)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("heads", [0, 3])
def test_attention_residual_refuses_other_heads(heads):
    arguments, layout = problem([3], d=4)
    proj = torch.randn(8, 8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    with pytest.raises(ValueError, match="norm_attention: heads must"):
        attention_residual(*arguments, *proj, **{**layout, "heads": heads})
