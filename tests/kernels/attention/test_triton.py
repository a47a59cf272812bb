"""The Triton kernels of packed attention, interpreted on the CPU, against the reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slim_kernels import packed_attention
from slim_kernels.attention import rotary
from slim_kernels.attention.cpu import attend_by_length
from slim_kernels.attention.reference import reference
from torch import Tensor

pytest.importorskip("triton", reason="the Triton kernels need triton")
from slim_kernels.attention import triton as triton_ops

Problem = tuple[Tensor, Tensor, Tensor, Tensor | None]


def problem(
    lengths: list[int], heads: int, d: int, hidden: bool, dtype: torch.dtype = torch.float64
) -> Problem:
    """qkv, cu_seqlens, time and, when hidden, the visible tokens (each sequence's first is one)."""
    total = sum(lengths)
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    time = torch.cat([torch.arange(n) // 2 - 1 for n in lengths] or [torch.zeros(0)]).to(
        torch.int32
    )
    visible = None
    if hidden:
        visible = torch.rand(total) < 0.5
        visible[[int(b) for b, n in zip(cu_seqlens, lengths, strict=False) if n]] = True
    return torch.randn(total, 3, heads, d, dtype=dtype).requires_grad_(), cu_seqlens, time, visible


def angles_of(qkv: Tensor, times: int) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(qkv.dtype, torch.float32)
    return rotary.tables(qkv.shape[3] // 2, max(times, 1), qkv.device, wide)


def kernels(
    qkv: Tensor,
    cu_seqlens: Tensor,
    longest: int,
    time: Tensor,
    visible: Tensor | None,
    buckets: list[int] | None,
) -> tuple[Tensor, Tensor]:
    """The op, with the angles that packed_attention gives it."""
    angles = angles_of(qkv, longest)
    return triton_ops.packed_attention(qkv, cu_seqlens, longest, *angles, time, visible, buckets)


def both(
    lengths: list[int], qkv: Tensor, cu_seqlens: Tensor, time: Tensor, visible: Tensor | None
) -> list[Tensor]:
    """Output and gradient of the kernels, then of the reference."""
    longest = max(lengths, default=0)
    out, _ = kernels(qkv, cu_seqlens, longest, time, visible, None)
    want = packed_attention(qkv, cu_seqlens, longest, time=time, visible=visible)
    upstream = torch.randn_like(want)
    return [
        out,
        *torch.autograd.grad(out, qkv, upstream),
        want,
        *torch.autograd.grad(want, qkv, upstream),
    ]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    lengths=st.lists(st.sampled_from([0, 1, 2, 15, 16, 17, 33]), min_size=1, max_size=4),
    heads=st.integers(1, 3),
    d=st.sampled_from([16, 32]),
    hidden=st.booleans(),
    whole=st.booleans(),
)
def test_equals_the_reference_over_ragged_sequences(seed, lengths, heads, d, hidden, whole):
    """By the kernels of whole sequences, and by those of long ones."""
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_ops, "fits", lambda *_: whole)
        out, grad, want, want_grad = both(lengths, *problem(lengths, heads, d, hidden))
    torch.testing.assert_close(out, want, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(grad, want_grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("lengths", [[63, 64, 65], [205, 30]])
def test_float32_over_several_blocks(lengths, hidden):
    out, grad, want, want_grad = both(lengths, *problem(lengths, 2, 32, hidden, torch.float32))
    torch.testing.assert_close(out, want, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(grad, want_grad, rtol=1e-5, atol=5e-6)


def test_the_widest_head():
    out, grad, want, want_grad = both([100], *problem([100], 1, 64, False, torch.float32))
    torch.testing.assert_close(out, want, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(grad, want_grad, rtol=1e-5, atol=5e-6)


def test_gradcheck():
    qkv, cu_seqlens, time, visible = problem([3, 5], 1, 16, True)
    assert torch.autograd.gradcheck(
        lambda x: kernels(x, cu_seqlens, 5, time, visible, None)[0],
        (qkv,),
        fast_mode=True,
    )


def test_non_contiguous_inputs():
    qkv, cu_seqlens, time, _ = problem([9, 4], 2, 16, False)
    loose = qkv.detach().transpose(0, 3).contiguous().transpose(0, 3).requires_grad_()
    loose_time, loose_bounds = (v.repeat_interleave(2)[::2] for v in (time, cu_seqlens))
    hidden = torch.arange(13) % 3 > 0
    hidden[[0, 9]] = True
    plain = kernels(qkv, cu_seqlens, 9, time, hidden, None)[0]
    outs = [
        plain,
        kernels(loose, loose_bounds, 9, loose_time, hidden.repeat_interleave(2)[::2], None)[0],
    ]
    assert torch.equal(*outs)
    upstream = torch.randn(16, 2, 13, dtype=torch.float64).permute(2, 1, 0)
    assert torch.equal(
        *(torch.autograd.grad(o, x, upstream)[0] for o, x in zip(outs, (qkv, loose), strict=True))
    )


@pytest.mark.parametrize("hidden", [False, True])
def test_runs_are_bitwise_alike(hidden):
    qkv, cu_seqlens, time, visible = problem([20, 7], 2, 16, hidden, torch.float32)
    upstream, runs = torch.randn(27, 2, 16), []
    for _ in range(2):
        out, _ = kernels(qkv, cu_seqlens, 20, time, visible, None)
        runs.append([out, *torch.autograd.grad(out, qkv, upstream)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_registration_holds():
    qkv, cu_seqlens, time, visible = problem([4, 3], 1, 16, True, torch.float32)
    angles = angles_of(qkv, 4)
    torch.library.opcheck(
        triton_ops.packed_attention, (qkv, cu_seqlens, 4, *angles, time, visible, None)
    )
    out, lse = kernels(qkv.detach(), cu_seqlens, 4, time, visible, None)
    torch.library.opcheck(
        triton_ops.packed_attention_backward,
        (
            *(torch.randn_like(out), qkv.detach(), out, lse, cu_seqlens, 4, *angles),
            *(time, visible, [1, 4, 1, 3]),
        ),
    )


def test_the_environment_chooses_the_kernels(monkeypatch):
    qkv, cu_seqlens, time, _ = problem([5], 1, 16, False)
    assert "slim_kernels" not in packed_attention(qkv, cu_seqlens, 5, time=time).grad_fn.name()
    monkeypatch.setenv("SLIM_KERNELS", "triton")
    chosen = packed_attention(qkv, cu_seqlens, 5, time=time)
    assert "slim_kernels" in chosen.grad_fn.name()
    monkeypatch.setenv("TRITON_INTERPRET", "0")  # the tensors are on a CPU
    assert "slim_kernels" not in packed_attention(qkv, cu_seqlens, 5, time=time).grad_fn.name()
    monkeypatch.setenv("SLIM_KERNELS", "fast")
    with pytest.raises(ValueError, match="SLIM_KERNELS='fast' is not known"):
        packed_attention(qkv, cu_seqlens, 5, time=time)


def test_a_head_without_a_kernel_falls_back_with_one_warning(monkeypatch):
    monkeypatch.setenv("SLIM_KERNELS", "triton")
    qkv, cu_seqlens, time, _ = problem([5], 1, 6, False)
    with pytest.warns(UserWarning, match="no Triton kernel for heads of 6") as caught:
        outs = [packed_attention(qkv, cu_seqlens, 5, time=time) for _ in range(2)]
    assert len(caught) == 1
    monkeypatch.delenv("SLIM_KERNELS")
    assert torch.equal(outs[0], packed_attention(qkv, cu_seqlens, 5, time=time))


@pytest.mark.parametrize("hidden", [False, True])
def test_buckets_change_nothing_but_the_tiles(hidden):
    lengths = [40, 33, 0, 20, 3, 0, 70]
    qkv, cu_seqlens, time, visible = problem(lengths, 2, 16, hidden)
    outs = [
        kernels(qkv, cu_seqlens, 70, time, visible, buckets)[0]
        for buckets in (None, [2, 40, 0, 9, 3, 20, 1, 0, 1, 70])
    ]
    torch.testing.assert_close(*outs, rtol=1e-12, atol=1e-12)
    upstream = torch.randn_like(outs[0])
    torch.testing.assert_close(
        *(torch.autograd.grad(out, qkv, upstream)[0] for out in outs), rtol=1e-10, atol=1e-11
    )


def test_the_longest_sequence():
    out, grad, want, want_grad = both([1024, 1], *problem([1024, 1], 1, 16, True, torch.float32))
    torch.testing.assert_close(out, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(grad, want_grad, rtol=1e-4, atol=1e-5)


def test_float16():
    """As a GPU multiplies; sums are in float32."""
    qkv, cu_seqlens, time, visible = problem([70, 9], 2, 32, True, torch.float16)
    out, _ = kernels(qkv, cu_seqlens, 70, time, visible, None)
    exact = qkv.detach().double().requires_grad_()
    want = packed_attention(exact, cu_seqlens, 70, time=time, visible=visible)
    assert (out.double() - want).norm() < 2e-3 * want.norm()
    upstream = torch.randn_like(want)
    (grad,), (want_grad,) = (
        torch.autograd.grad(o, x, upstream.to(o.dtype)) for o, x in ((out, qkv), (want, exact))
    )
    assert grad.dtype == torch.float16
    assert (grad.double() - want_grad).norm() < 3e-3 * want_grad.norm()


@pytest.mark.parametrize("way", ["whole", "long", "cpu", "reference"])
@pytest.mark.parametrize("lengths", [[4, 3, 20], [3], [70, 9]])
def test_a_sequence_without_a_visible_key_answers_zeros(monkeypatch, way, lengths):
    """Where nobody looks at `visible`, as on a GPU; the others are as they would be alone."""
    qkv, cu_seqlens, time, _ = problem(lengths, 2, 16, False)
    visible = torch.arange(len(time)) >= lengths[0]
    monkeypatch.setattr(triton_ops, "fits", lambda *_: way == "whole")
    longest = max(lengths)
    if way == "cpu":
        out = attend_by_length(qkv, cu_seqlens, longest, time, visible)
    elif way == "reference":
        out = reference(qkv, cu_seqlens, longest, time, visible)
    else:
        out, lse = kernels(qkv, cu_seqlens, longest, time, visible, None)
        assert lse.isfinite().all()
    (grad,) = torch.autograd.grad(out, qkv, torch.ones_like(out))
    blind = lengths[0]
    assert not out[:blind].any()
    assert not grad[:blind].any()
    if len(lengths) > 1:
        rest = qkv[blind:].detach().requires_grad_()
        want = packed_attention(rest, cu_seqlens[1:] - blind, longest, time=time[blind:])
        torch.testing.assert_close(out[blind:], want, rtol=1e-10, atol=1e-12)
        (want_grad,) = torch.autograd.grad(want, rest, torch.ones_like(want))
        torch.testing.assert_close(grad[blind:], want_grad, rtol=1e-9, atol=1e-11)
