"""The counter-based streams: the right distribution, no two streams alike, every draw a function of
its key.
"""

import itertools
import math

import pytest
import torch
from torch import Tensor

from slim_fast.views.random_stream import RandomStream

N = 100_000


def correlation(a: Tensor, b: Tensor) -> float:
    """In units of its standard error."""
    pair = torch.stack([a.flatten(), b.flatten()]).double()
    return float(torch.corrcoef(pair)[0, 1]) * math.sqrt(pair.shape[1])


@pytest.fixture(params=["counters", "clips", "steps", "views"])
def draws(request) -> RandomStream:
    """The four ways in which a run comes by many numbers: one stream's counter, or neighbouring
    keys.
    """
    count = torch.arange(N)
    return {
        "counters": RandomStream.of(0, 0, 0),
        "clips": RandomStream.of(0, 0, count),
        "steps": RandomStream.of(0, count, 0),
        "views": RandomStream.of(0, 0, 0).fold_in(count),
    }[request.param]


def test_uniform_numbers_are_uniform(draws, surprise):
    u = draws.uniform(N) if draws.keys.dim() == 0 else draws.uniform()
    assert u.shape == (N,)
    assert u.dtype == torch.float32
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.double().mean() - 0.5) < 5 * math.sqrt(1 / 12 / N)
    assert abs(u.double().var() - 1 / 12) < 5 * math.sqrt(1 / 180 / N)
    # nor suspiciously even
    assert abs(surprise(torch.bincount((u * 256).long(), minlength=256))) < 5
    assert abs(surprise(torch.bincount((u * 2**20).long() % 64, minlength=64))) < 5  # lower digits
    assert abs(correlation(u[:-1], u[1:])) < 5
    pairs = (u[:-1:2] * 16).long() * 16 + (u[1::2] * 16).long()
    assert abs(surprise(torch.bincount(pairs, minlength=256))) < 5


def test_every_bit_is_a_fair_coin(draws):
    bits = draws.bits(N) if draws.keys.dim() == 0 else draws.bits(1)[:, 0]
    ones = torch.stack([((bits >> place) & 1).double().mean() for place in range(64)])
    assert (ones - 0.5).abs().max() < 5 * 0.5 / math.sqrt(N)


def test_normal_numbers_are_normal(draws):
    x = (draws.normal((N,)) if draws.keys.dim() == 0 else draws.normal((1,))[:, 0]).double()
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((x**power).mean() - moment) < 5 * math.sqrt(variance / N)
    for sigma in (0.5, 1, 2, 3):
        share = math.erf(sigma / math.sqrt(2))
        assert abs((x.abs() < sigma).double().mean() - share) < 5 * math.sqrt(
            share * (1 - share) / N
        )
    assert x.isfinite().all()


def test_both_halves_of_a_normal_draw_are_independent():
    x = RandomStream.of(3).normal((2, N))
    assert abs(correlation(x[0], x[1])) < 5
    assert abs(correlation(x[0].square(), x[1].square())) < 5


@pytest.mark.parametrize("count", [1, 2, 5])
def test_normal_shapes(count):
    stream = RandomStream.of(0, torch.arange(7))
    x = stream.normal((count, 3))
    assert x.shape == (7, count, 3)
    assert x.unique().numel() == x.numel()


def test_neighbouring_streams_are_uncorrelated():
    """Seeds, steps, clips, views and purposes that differ by one, or by one bit."""
    origin = RandomStream.of(5, 7, 11).fold_in(2).fold_in(1)
    others = [
        RandomStream.of(*(v + (i == place) for i, v in enumerate((5, 7, 11)))).fold_in(2).fold_in(1)
        for place in range(3)
    ] + [
        RandomStream.of(5, 7, 11).fold_in(3).fold_in(1),
        RandomStream.of(5, 7, 11).fold_in(2).fold_in(2),
        RandomStream.of(5, 7, 11).fold_in(2),
    ]
    others += [
        RandomStream.of(7, 5, 11).fold_in(2).fold_in(1),
        RandomStream.of(5, 7, 11).fold_in(1).fold_in(2),
        RandomStream.of(5, 7, 11),
    ]
    others += [
        RandomStream.of(5, 7, 11 + 2**40).fold_in(2).fold_in(1),
        RandomStream.of(-5, 7, 11).fold_in(2).fold_in(1),
    ]
    drawn = [stream.uniform(20_000) for stream in (origin, *others)]
    for a, b in itertools.combinations(drawn, 2):
        assert not torch.equal(a, b)
        assert abs(correlation(a, b)) < 5
        assert abs(correlation(a[:-1], b[1:])) < 5


def test_no_two_streams_share_a_draw():
    grid = RandomStream.of(0, torch.arange(20)[:, None, None], torch.arange(50)[:, None]).fold_in(
        torch.arange(12)
    )
    assert grid.keys.unique().numel() == 20 * 50 * 12
    assert grid.bits(10).unique().numel() == 20 * 50 * 12 * 10


def test_the_same_key_gives_the_same_bits_in_any_company():
    clips = torch.tensor([3, 99, 4, 4, 12345678901])
    batch = RandomStream.of(1, 2, clips).fold_in(5)
    again = RandomStream.of(1, 2, clips.clone()).fold_in(5)
    assert torch.equal(batch.bits(9), again.bits(9))
    for i, clip in enumerate(clips.tolist()):
        alone = RandomStream.of(1, 2, clip).fold_in(5)
        assert torch.equal(alone.bits(9), batch.bits(9)[i])
        assert torch.equal(alone.uniform(3, 3), batch.uniform(3, 3)[i])
        assert torch.equal(alone.normal((5,)), batch[i].normal((5,)))
    chosen = torch.tensor([4, 0])
    assert torch.equal(batch[chosen].uniform(6), batch.uniform(6)[chosen])
    assert torch.equal(batch.bits(4), batch.bits(9)[:, :4])


def test_parts_broadcast():
    stream = RandomStream.of(0, torch.arange(3)[:, None], torch.arange(4))
    assert stream.uniform(2).shape == (3, 4, 2)
    assert torch.equal(stream.uniform(2)[2, 1], RandomStream.of(0, 2, 1).uniform(2))
    assert stream[:, None].fold_in(torch.arange(5)[:, None]).uniform().shape == (3, 5, 4)
