"""packed_attention against a softmax in float64, sequence by sequence and head by head."""

import cmath
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slim_kernels import packed_attention
from slim_kernels.attention import rotary
from slim_kernels.attention.reference import reference
from torch import Tensor


def rotated(x: Tensor, time: int) -> Tensor:
    """One token's vector (d,) as d / 2 complex numbers, each turned by time × 10000^(-2i / d)."""
    d = len(x)
    if time < 0:
        return x
    turns = [cmath.exp(1j * time * 10000 ** (-2 * i / d)) for i in range(d // 2)]
    z = torch.complex(x[: d // 2], x[d // 2 :]) * torch.tensor(turns, dtype=torch.complex128)
    return torch.cat([z.real, z.imag])


def explicit(qkv: Tensor, lengths: list[int], time: Tensor, visible: Tensor | None) -> Tensor:
    """(total, H, d) in float64."""
    qkv = qkv.double()
    total, _, heads, d = qkv.shape
    turns = [
        [[rotated(qkv[i, part, h], int(time[i])) for h in range(heads)] for part in (0, 1)]
        for i in range(total)
    ]
    rows, begin = [], 0
    for length in lengths:
        keys = [j for j in range(begin, begin + length) if visible is None or visible[j]]
        for i in range(begin, begin + length):
            for h in range(heads):
                score = torch.stack([turns[i][0][h] @ turns[j][1][h] for j in keys]) / math.sqrt(d)
                share = torch.exp(score - score.max())
                rows.append((share / share.sum()) @ qkv[keys, 2, h])
        begin += length
    return torch.stack(rows).view(total, heads, d) if rows else qkv[:, 2]


def bounds(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def problem(
    lengths: list[int], heads: int = 2, d: int = 4, hidden: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """qkv, time (two prefix tokens, then two tokens a time) and, when hidden, which tokens are
    visible.
    """
    total = sum(lengths)
    qkv = torch.randn(total, 3, heads, d, dtype=torch.float64)
    time = torch.cat([torch.arange(n) // 2 - 1 for n in lengths] or [torch.zeros(0)]).to(
        torch.int32
    )
    if not hidden:
        return qkv, time, None
    visible = torch.rand(total) < 0.5
    visible[bounds([n for n in lengths if n])[:-1].long()] = True
    return qkv, time, visible


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    lengths=st.lists(st.sampled_from([0, 1, 1, 2, 3, 3, 5, 8]), max_size=6),
    heads=st.integers(1, 3),
    half=st.integers(1, 4),
    hidden=st.booleans(),
    chunk=st.sampled_from([1, 50, 1 << 17]),
)
def test_equals_explicit_softmax_over_ragged_sequences(seed, lengths, heads, half, hidden, chunk):
    torch.manual_seed(seed)
    qkv, time, visible = problem(lengths, heads, 2 * half, hidden)
    qkv.requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rotary, "_CHUNK_NUMBERS", chunk)
        got = packed_attention(
            qkv, bounds(lengths), max(lengths, default=0), time=time, visible=visible
        )
        assert got.shape == (sum(lengths), heads, 2 * half)
        upstream = torch.randn_like(got)
        (grad,) = torch.autograd.grad((got * upstream).sum(), qkv)
    expected = explicit(qkv, lengths, time, visible)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        grad, torch.autograd.grad((expected * upstream).sum(), qkv)[0], rtol=1e-9, atol=1e-9
    )


def test_gradcheck():
    lengths = [3, 0, 1, 4]
    qkv, time, visible = problem(lengths, hidden=True)
    qkv.requires_grad_()

    def attention(qkv: Tensor) -> Tensor:
        return packed_attention(qkv, bounds(lengths), 4, time=time, visible=visible)

    assert torch.autograd.gradcheck(attention, (qkv,))


def test_a_single_token_attends_to_itself():
    qkv, time, _ = problem([1, 1, 1])
    torch.testing.assert_close(
        packed_attention(qkv, bounds([1, 1, 1]), 1, time=time.clamp_max(0)), qkv[:, 2]
    )


def test_times_shifted_together_give_the_same_attention():
    """Rotary embedding knows differences of time only."""
    lengths = [6, 4]
    qkv, time, _ = problem(lengths)
    near, far = (
        packed_attention(qkv, bounds(lengths), 99, time=time.clamp_min(0) + shift)
        for shift in (0, 50)
    )
    torch.testing.assert_close(near, far)
    still = packed_attention(qkv, bounds(lengths), 99, time=torch.full_like(time, -1))
    assert (near - still).abs().max() > 1e-3


def test_what_is_not_visible_is_not_read():
    lengths = [5, 7]
    qkv, time, visible = problem(lengths, hidden=True)
    before = packed_attention(qkv, bounds(lengths), 7, time=time, visible=visible)
    qkv[~visible, 1:] = 1e3 * torch.randn_like(qkv[~visible, 1:])
    assert torch.equal(
        before, packed_attention(qkv, bounds(lengths), 7, time=time, visible=visible)
    )


def test_no_sequence_reads_another():
    lengths = [5, 5, 3]
    qkv, time, _ = problem(lengths)
    before = packed_attention(qkv, bounds(lengths), 5, time=time)
    qkv[5:10] = torch.randn(5, 3, 2, 4, dtype=torch.float64)
    after = packed_attention(qkv, bounds(lengths), 5, time=time)
    assert torch.equal(before[:5], after[:5])
    assert torch.equal(before[10:], after[10:])
    assert not torch.equal(before[5:10], after[5:10])


@pytest.mark.parametrize("strides", ["tokens", "features", "parts"])
def test_non_contiguous_inputs(strides):
    lengths = [4, 4, 2]
    qkv, time, _ = problem(lengths)
    if strides == "tokens":
        loose = qkv.repeat_interleave(2, 0)[::2]
    elif strides == "features":
        loose = qkv.transpose(0, 3).contiguous().transpose(0, 3)
    else:
        loose = qkv.transpose(0, 1).contiguous().transpose(0, 1)
    assert not loose.is_contiguous()
    plain, loose = qkv.requires_grad_(), loose.detach().requires_grad_()
    outs = [packed_attention(x, bounds(lengths), 4, time=time) for x in (plain, loose)]
    assert torch.equal(*outs)
    # (10, 2, 4), not contiguous either
    upstream = torch.randn(4, 2, 10, dtype=torch.float64).permute(2, 1, 0)
    grads = [
        torch.autograd.grad(out, x, upstream)[0]
        for out, x in zip(outs, (plain, loose), strict=True)
    ]
    torch.testing.assert_close(*grads)


def test_permuted_sequences_give_permuted_outputs():
    lengths = [5, 1, 3, 5, 0, 8]
    qkv, time, visible = problem(lengths, hidden=True)
    begin = bounds(lengths).tolist()
    order = torch.randperm(6).tolist()
    index = torch.cat([torch.arange(begin[s], begin[s + 1]) for s in order])
    plain = packed_attention(qkv, bounds(lengths), 8, time=time, visible=visible)
    moved = packed_attention(
        qkv[index], bounds([lengths[s] for s in order]), 8, time=time[index], visible=visible[index]
    )
    torch.testing.assert_close(moved, plain[index], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_runs_are_bitwise_alike_and_close_to_float64(dtype):
    lengths = [55, 55, 30, 105]
    qkv, time, _ = problem(lengths, 2, 32)
    qkv = qkv.to(dtype).requires_grad_()

    def run() -> tuple[Tensor, Tensor]:
        out = packed_attention(qkv, bounds(lengths), 105, time=time)
        return out.detach(), torch.autograd.grad(out.square().sum(), qkv)[0]

    first, second = run(), run()
    assert all(torch.equal(a, b) and a.dtype == dtype for a, b in zip(first, second, strict=True))
    exact = packed_attention(qkv.detach().double(), bounds(lengths), 105, time=time)
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
    assert (first[0].double() - exact).norm() < tolerance * exact.norm()


def test_rotation_is_computed_in_float32_for_bfloat16():
    """Far in time an angle rounded to bfloat16 would be off by whole turns."""
    qkv = torch.randn(40, 3, 2, 32).to(torch.bfloat16)
    time = torch.arange(1000, 1040, dtype=torch.int32)
    exact = packed_attention(qkv.double(), bounds([40]), 1040, time=time)
    got = packed_attention(qkv, bounds([40]), 1040, time=time)
    assert (got.double() - exact).norm() < 1e-2 * exact.norm()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    lengths=st.lists(st.sampled_from([0, 1, 2, 5, 8]), min_size=1, max_size=5),
    hidden=st.booleans(),
)
def test_padded_reference_equals_runs_of_equal_length(seed, lengths, hidden):
    """What a compiler traces, and what a GPU without Triton runs, against what a CPU runs."""
    torch.manual_seed(seed)
    total, longest = sum(lengths), max(lengths)
    qkv = torch.randn(total, 3, 2, 4, dtype=torch.float64).requires_grad_()
    time = torch.randint(-1, max(longest, 1), (total,), dtype=torch.int32)
    visible = torch.rand(total) < 0.6 if hidden else None
    if visible is not None:
        visible[[int(b) for b, n in zip(bounds(lengths), lengths, strict=False) if n]] = True
    outs = [
        reference(qkv, bounds(lengths), longest + 1, time, visible),
        packed_attention(qkv, bounds(lengths), longest + 1, time=time, visible=visible),
    ]
    torch.testing.assert_close(*outs, rtol=1e-12, atol=1e-12)
    grads = [
        torch.autograd.grad(out, qkv, torch.ones_like(out), allow_unused=True)[0] for out in outs
    ]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-12)


INTEGERS = torch.int32
BAD = {
    "qkv must be": {"qkv": torch.zeros(6, 2, 2, 4)},
    "even d": {"qkv": torch.zeros(6, 3, 2, 5)},
    "time must be of shape": {"time": torch.zeros(5, dtype=INTEGERS)},
    "time must be integers": {"time": torch.zeros(6)},
    "time must stay below max_seqlen, 4; it reaches 4": {
        "time": torch.full((6,), 4, dtype=INTEGERS)
    },
    "visible must be of shape": {"visible": torch.ones(7, dtype=torch.bool)},
    "visible must be bool": {"visible": torch.ones(6)},
    "sequence 1 has no visible token": {"visible": torch.arange(6) < 4},
    "cu_seqlens must be integers": {"cu_seqlens": torch.tensor([0.0, 6.0])},
    "ends at 5": {"cu_seqlens": torch.tensor([0, 4, 5], dtype=INTEGERS)},
    "begins with 1": {"cu_seqlens": torch.tensor([1, 4, 6], dtype=INTEGERS)},
    "must not fall; it falls after entry 1": {
        "cu_seqlens": torch.tensor([0, 4, 3, 6], dtype=INTEGERS)
    },
    "max_seqlen is 3, but a sequence has 4 tokens": {"max_seqlen": 3},
    "2 sequences in all": {"buckets": [1, 4]},
    "in turn, 2 sequences": {"buckets": [3, 4, -1, 2]},
    "at most 2 tokens of bucket 0, which has one of 4": {"buckets": [2, 2]},
    "qkv must hold floating-point rows": {"qkv": torch.zeros(6, 3, 2, 4, dtype=torch.int64)},
    "lies on meta": {"time": torch.zeros(6, dtype=INTEGERS, device="meta")},
}


@pytest.mark.parametrize("message", BAD)
def test_what_does_not_fit_is_named(message):
    arguments = {
        "qkv": torch.zeros(6, 3, 2, 4),
        "cu_seqlens": bounds([4, 2]),
        "max_seqlen": 4,
        "time": torch.zeros(6, dtype=INTEGERS),
        **BAD[message],
    }
    with pytest.raises(ValueError, match=message):
        packed_attention(**arguments)
