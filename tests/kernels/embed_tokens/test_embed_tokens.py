"""embed_tokens, by PyTorch and by the Triton kernels, against one token at a time, written as the
paper says it.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slim_kernels import embed_tokens

from tests.kernels.embed_tokens.conftest import C, P, groups, one_by_one, parameters


@pytest.fixture(params=["reference", "triton"])
def backend(request, monkeypatch):
    if request.param == "triton":
        pytest.importorskip("triton", reason="the Triton kernels need triton")
    monkeypatch.setenv("SLIM_KERNELS", request.param)
    return request.param


def assert_alike(clips, masks, parts, index, tolerance=1e-10) -> None:
    got, want = (
        embed_tokens(clips, masks, *parts, index=index),
        one_by_one(clips, masks, *parts, index),
    )
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
    upstream = torch.randn_like(want)
    both = (torch.autograd.grad(out, parts, upstream, allow_unused=True) for out in (got, want))
    for ours, theirs, part in zip(*both, parts, strict=True):
        zero = torch.zeros_like(part)
        torch.testing.assert_close(
            zero if ours is None else ours,
            zero if theirs is None else theirs,
            rtol=tolerance,
            atol=tolerance,
        )


@pytest.mark.parametrize("which", ["reference", "triton"])
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=3),
    joints=st.sampled_from([1, 5, 25]),
    width=st.sampled_from([1, 8, 17]),
    prefix=st.integers(0, 5),
    masked=st.booleans(),
    chosen=st.booleans(),
)
def test_equals_one_token_at_a_time(which, seed, sizes, joints, width, prefix, masked, chosen):
    torch.manual_seed(seed)
    clips, masks = groups(sizes, joints, masked)
    total = sum(n * (prefix + t * joints) for n, t in sizes)
    index = torch.randperm(total)[: total // 2] if chosen else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIM_KERNELS", which)
        assert_alike(clips, masks, parameters(width, joints, prefix), index)


def test_hidden_coordinates_are_not_read(backend):
    clips, _ = groups([(2, 3)], 5, False)
    mask = torch.rand(2, 3, 5) < 0.5
    spoiled = torch.where(mask.repeat_interleave(P, 1)[..., None], torch.nan, clips[0])
    parts = parameters(8, 5, 1)
    outs = [embed_tokens([x], [mask], *parts) for x in (clips[0], spoiled)]
    assert torch.equal(*outs)
    # PyTorch's `where` multiplies the gradient of what it did not choose by 0
    if backend == "triton":
        grads = [torch.autograd.grad(out.sum(), parts) for out in outs]
        assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_empty_people_and_padded_frames_are_left_out_by_the_index(backend):
    clips, masks = groups([(3, 2), (2, 1)], 5, True)
    parts = parameters(8, 5, 2)
    whole = embed_tokens(clips, masks, *parts)
    length, short = 2 + 10, 2 + 5
    # clip 1 of the first group is nobody, clip 2 ends after one temporal token, the second group
    # stays whole
    kept = [
        *range(length),
        *range(2 * length, 2 * length + 2 + 5),
        *range(3 * length, 3 * length + 2 * short),
    ]
    index = torch.tensor(kept)
    assert torch.equal(embed_tokens(clips, masks, *parts, index=index), whole[index])


def test_clips_of_any_strides(backend):
    batch = torch.randn(2, C, 4 * P, 5, 3, dtype=torch.float64)  # (B, C, T, V, M)
    clips = [batch[..., person].permute(0, 2, 3, 1) for person in range(3)]
    parts = parameters(8, 5, 1)
    plain = embed_tokens([x.contiguous() for x in clips], [None] * 3, *parts)
    assert torch.equal(embed_tokens(clips, [None] * 3, *parts), plain)


def test_float32_and_many_tokens(backend):
    """More tokens than one program sums, and a wide row."""
    clips = [torch.randn(20, 4 * P, 25, C), torch.randn(9, 1 * P, 25, C)]
    masks = [torch.rand(20, 4, 25) < 0.5, None]
    parts = parameters(64, 25, 5, torch.float32)
    exact = [p.detach().double().requires_grad_() for p in parts]
    got, want = (
        embed_tokens(clips, masks, *parts),
        one_by_one([x.double() for x in clips], masks, *exact),
    )
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    upstream = torch.randn_like(want)
    pairs = zip(
        torch.autograd.grad(got, parts, upstream.float()),
        torch.autograd.grad(want, exact, upstream),
        strict=True,
    )
    for ours, theirs in pairs:
        assert (ours.double() - theirs).norm() < 1e-5 * theirs.norm()


def test_clips_of_another_dtype_than_the_parameters(backend):
    clips, masks = groups([(2, 2)], 5, True)
    parts = parameters(8, 5, 1, torch.float32)
    got = embed_tokens(clips, masks, *parts)
    assert got.dtype == torch.float32
    torch.testing.assert_close(
        got, embed_tokens([clips[0].float()], masks, *parts), rtol=1e-5, atol=1e-5
    )


@pytest.mark.long
def test_clips_of_more_than_2_31_numbers():
    """Offsets beyond int32; only the pages that are touched take memory."""
    pytest.importorskip("triton", reason="the Triton kernels need triton")
    from slim_kernels.embed_tokens import triton as embed_triton

    clips = torch.zeros(2**31 + 200, dtype=torch.int8).as_strided(
        (2, 4 * P, 5, C), (2**31, 5 * C, C, 1)
    )
    clips[1] = torch.randint(-5, 5, clips.shape[1:])
    parts = [p.detach() for p in parameters(8, 5, 1, torch.float32)]
    none = [torch.zeros(0, dtype=torch.bool)]
    outs = [embed_triton.embed_tokens([x], none, *parts, None) for x in (clips, clips.float())]
    assert torch.equal(*outs)


@pytest.mark.long
def test_channels_more_than_2_30_numbers_apart():
    pytest.importorskip("triton", reason="the Triton kernels need triton")
    from slim_kernels.embed_tokens import triton as embed_triton

    clips = torch.zeros(2**31 + 300, dtype=torch.int8).as_strided(
        (1, 4 * P, 5, C), (40, 5, 1, 2**30 + 64)
    )
    clips[..., 1:] = torch.randint(-5, 5, (1, 4 * P, 5, 2))
    parts = [p.detach() for p in parameters(8, 5, 1, torch.float32)]
    none = [torch.zeros(0, dtype=torch.bool)]
    outs = [embed_triton.embed_tokens([x], none, *parts, None) for x in (clips, clips.float())]
    assert torch.equal(*outs)


def test_an_index_of_any_order_with_repetitions(backend):
    clips, masks = groups([(2, 3), (3, 1), (1, 2)], 5, True)
    total = 2 * 16 + 3 * 6 + 11
    index = torch.randint(total, (3 * total,))
    assert_alike(clips, masks, parameters(8, 5, 1), index)


def test_more_tokens_than_a_launch_counts(monkeypatch):
    """Groups in parts, also where the index alone says which tokens are wanted."""
    pytest.importorskip("triton", reason="the Triton kernels need triton")
    from slim_kernels.embed_tokens import triton as embed_triton

    monkeypatch.setenv("SLIM_KERNELS", "triton")
    monkeypatch.setattr(embed_triton, "MOST_TOKENS", 40)
    clips, masks = groups([(7, 3), (5, 1)], 5, True)
    for index in (None, torch.randperm(7 * 16 + 5 * 6)[:60]):
        assert_alike(clips, masks, parameters(8, 5, 1), index)


def test_tokens_beyond_2_31_of_one_group():
    """One clip seen many times, its last sequences emitted."""
    pytest.importorskip("triton", reason="the Triton kernels need triton")
    from slim_kernels.embed_tokens import triton as embed_triton

    clip, count = torch.randn(1, P, 5, C), 2**30
    clips, none = clip.expand(count, -1, -1, -1), [torch.zeros(0, dtype=torch.bool)]
    parts = [p.detach() for p in parameters(8, 5, 1, torch.float32)]
    index = 6 * count - torch.arange(1, 9)
    got = embed_triton.embed_tokens([clips], none, *parts, index)
    plain = embed_tokens([clip.expand(2, -1, -1, -1)], [None], *parts, index=index - 6 * count + 12)
    torch.testing.assert_close(got, plain, rtol=1e-5, atol=1e-5)


def test_a_group_is_launched_for_its_own_tokens_only(monkeypatch):
    pytest.importorskip("triton", reason="the Triton kernels need triton")
    from slim_kernels.embed_tokens import triton as embed_triton

    grids = {"embed_kernel": [], "embed_backward_kernel": []}
    for name, kept in grids.items():
        kernel = getattr(embed_triton, name)

        class Recorded:
            def __getitem__(self, grid, kernel=kernel, kept=kept):
                kept.append(grid[0])
                return kernel[grid]

        monkeypatch.setattr(embed_triton, name, Recorded())
    tile = {"num_warps": 4, "num_stages": 1, "BM": 16, "BLOCKS": 1, "BF": 16}
    monkeypatch.setattr(
        embed_triton,
        "launch",
        lambda kernel, *_: {
            k: v for k, v in tile.items() if k != ("BF" if kernel == "embed" else "BLOCKS")
        },
    )
    monkeypatch.setenv("SLIM_KERNELS", "triton")
    clips, masks = groups([(16, 3), (16, 1)], 5, True)
    embed_tokens(clips, masks, *parameters(8, 5, 1)).sum().backward()
    assert grids == {"embed_kernel": [16, 6], "embed_backward_kernel": [16, 6]}


def test_runs_are_bitwise_alike(backend):
    clips, masks = groups([(4, 3), (2, 1)], 5, True)
    parts, runs = parameters(16, 5, 2), []
    for _ in range(2):
        out = embed_tokens(clips, masks, *parts)
        runs.append([out.detach(), *torch.autograd.grad(out.square().sum(), parts)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_gradients_of_clips_fall_back_with_a_warning(monkeypatch):
    pytest.importorskip("triton", reason="the Triton kernels need triton")
    monkeypatch.setenv("SLIM_KERNELS", "triton")
    clips, masks = groups([(2, 2)], 5, True)
    clips[0].requires_grad_()
    with pytest.warns(UserWarning, match="no Triton kernel for gradients of clips"):
        out = embed_tokens(clips, masks, *parameters(8, 5, 1))
    assert torch.autograd.grad(out.sum(), clips[0])[0].any()


def test_frozen_parameters_get_no_gradient(backend):
    clips, masks = groups([(2, 2)], 5, True)
    parts = parameters(8, 5, 1)
    want = torch.autograd.grad(embed_tokens(clips, masks, *parts).square().sum(), parts)
    for trained in range(len(parts)):
        leaves = [p.detach().requires_grad_(n == trained) for n, p in enumerate(parts)]
        embed_tokens(clips, masks, *leaves).square().sum().backward()
        assert [p.grad is not None for p in leaves] == [n == trained for n in range(len(leaves))]
        torch.testing.assert_close(leaves[trained].grad, want[trained])
