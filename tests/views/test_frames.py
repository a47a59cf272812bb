"""Ping-pong, crops and windows against their definitions spelled out in numpy."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from slim_fast.views.frames import (
    crop,
    evaluation_positions,
    extended_length,
    ping_pong_index,
    window_positions,
)
from slim_fast.views.random_stream import RandomStream


def ping_pong(frames: int) -> np.ndarray:
    pieces = [np.arange(frames)]
    while sum(map(len, pieces)) < 150:
        pieces.append(pieces[-1][::-1])
    return np.concatenate(pieces)


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 49, 50, 74, 75, 76, 149, 150, 151, 300, 1000])
def test_ping_pong(frames):
    explicit = ping_pong(frames)
    length = extended_length(torch.tensor([frames]))
    assert length.item() == len(explicit)
    folded = ping_pong_index(torch.arange(len(explicit)), torch.tensor(frames))
    assert np.array_equal(folded.numpy(), explicit)


@settings(max_examples=60, deadline=None)
@given(
    available=st.integers(1, 2000),
    window=st.sampled_from([4, 8, 12, 16, 32, 64]),
    low=st.floats(0, 1),
    width=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_crops_lie_inside_and_have_the_asked_length(available, window, low, width, seed):
    high = min(1.0, low + width)
    start, length = crop(
        torch.full((200,), available), window, (low, high), RandomStream.of(seed, torch.arange(200))
    )
    shortest = min(16, max(8, window))
    assert start.dtype == length.dtype == torch.int64
    assert (start >= 0).all()
    assert (start + length <= available).all()
    assert (length >= min(shortest, available)).all()
    assert (length <= max(available * high + 1e-3, min(shortest, available))).all()
    assert (length >= math.floor(available * low * (1 - 1e-6))).all()


def test_crop_lengths_and_starts_are_uniform(surprise):
    many = 200_000
    start, length = crop(
        torch.full((many,), 200), 64, (0.5, 1.0), RandomStream.of(1, torch.arange(many))
    )
    assert set(length.tolist()) == set(range(100, 200))  # floor(200 p)
    assert surprise(torch.bincount(length - 100, minlength=100)) < 5
    for asked in (100, 150, 190):
        starts = start[length == asked]
        assert surprise(torch.bincount(starts, minlength=200 - asked + 1)) < 5
    room = (200 - length + 1).double()
    place = (start + 0.5) / room
    assert abs(torch.corrcoef(torch.stack([place, length.double()]))[0, 1]) < 5 / math.sqrt(many)


def test_a_whole_clip_can_be_cropped():
    start, length = crop(
        torch.tensor([150, 300, 9]), 64, (1.0, 1.0), RandomStream.of(0, torch.arange(3))
    )
    assert start.tolist() == [0, 0, 0]
    assert length.tolist() == [150, 300, 9]


@pytest.mark.parametrize("window", [8, 16, 64])
def test_short_crops_are_interpolated(window):
    for length in range(1, window):
        ramp = torch.arange(length).float()[None, None]
        expected = F.interpolate(ramp, window, mode="linear", align_corners=False)[0, 0]
        got = window_positions(torch.tensor([length]), window, RandomStream.of(0, torch.arange(1)))[
            0
        ]
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-5)
        assert (got.diff() >= 0).all()
        assert 0 <= got.min() <= got.max() <= length - 1


@pytest.mark.parametrize("window", [8, 32])
def test_medium_crops_leave_single_frames_out(window):
    for length in range(window, 2 * window):
        position = window_positions(
            torch.full((100,), length), window, RandomStream.of(length, torch.arange(100))
        )
        assert torch.equal(position, position.round())
        steps = position.diff(prepend=torch.full((100, 1), -1.0))
        assert ((steps == 1) | (steps == 2)).all()
        assert (position[:, -1] <= length - 1).all()
        gaps = (steps == 2).sum(1) + (position[:, -1] < length - 1)
        assert (gaps == length - window).all()


def test_frames_left_out_are_a_uniform_choice(surprise):
    window, length, many = 4, 6, 40_000
    position = window_positions(
        torch.full((many,), length), window, RandomStream.of(2, torch.arange(many))
    )
    seen = {tuple(row): 0 for row in itertools.combinations(range(length), window)}
    rows = {c for c in seen if all(b - a <= 2 for a, b in itertools.pairwise((-1, *c, length)))}
    for row in position.long().tolist():
        seen[tuple(row)] += 1
    assert {row for row, count in seen.items() if count} == rows
    assert len(rows) == math.comb(window + 1, length - window)
    assert surprise(torch.tensor([seen[row] for row in rows])) < 5


@pytest.mark.parametrize(
    ("window", "length"), [(8, 16), (8, 17), (8, 61), (16, 40), (64, 128), (64, 301)]
)
def test_long_crops_give_one_frame_of_every_bin(window, length, surprise):
    many = 4000
    position = window_positions(
        torch.full((many,), length), window, RandomStream.of(3, torch.arange(many))
    )
    edges = [i * length // window for i in range(window + 1)]
    for i, (first, last) in enumerate(itertools.pairwise(edges)):
        seen = torch.bincount((position[:, i] - first).long(), minlength=last - first)
        assert len(seen) == last - first
        assert (seen > 0).all()
        assert surprise(seen) < 5
    assert (position.diff() > 0).all()


def test_bins_are_drawn_independently():
    position = window_positions(
        torch.full((20_000,), 80), 8, RandomStream.of(4, torch.arange(20_000))
    )
    off = torch.corrcoef((position % 10).t()) - torch.eye(8)
    assert off.abs().max() < 5 / math.sqrt(20_000)


def test_lengths_of_all_kinds_together():
    """Each row depends on its own length and stream only."""
    lengths = torch.tensor([[1, 5, 7], [8, 11, 15], [16, 40, 500]])
    stream = RandomStream.of(6, torch.arange(9).view(3, 3))
    together = window_positions(lengths, 8, stream)
    assert together.shape == (3, 3, 8)
    for i, j in itertools.product(range(3), range(3)):
        assert torch.equal(together[i, j], window_positions(lengths[i, j], 8, stream[i, j]))
    assert (together.diff() >= 0).all()
    assert (together >= 0).all()
    assert (together <= lengths[..., None] - 1).all()


@pytest.mark.parametrize("frames", [1, 2, 30, 63, 64, 65, 66, 67, 68, 100, 135, 300, 1001])
def test_evaluation_positions(frames):
    """Of at most 64 frames all, interpolated; else max(95 %, 64), the first frame of each of 64
    bins.
    """
    got = evaluation_positions(torch.tensor([frames]), 64)[0].numpy()
    length = frames if frames <= 64 else max(int(0.95 * frames), 64)
    start = int(0.05 * frames / 2) if frames > 64 else 0
    assert start + length <= frames
    if length < 64:
        ramp = torch.arange(length).float()[None, None]
        expected = F.interpolate(ramp, 64, mode="linear", align_corners=False)[0, 0].numpy()
        np.testing.assert_allclose(got, expected, atol=1e-4)
    else:
        assert got.tolist() == [start + i * length // 64 for i in range(64)]
