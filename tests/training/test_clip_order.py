"""Which clips a step trains on."""

import pytest
import torch

from slim_fast.training.order import ClipOrder


@pytest.mark.parametrize(("clips", "batch"), [(12, 4), (10, 4), (7, 7), (5, 12), (1, 4), (13, 1)])
def test_every_clip_comes_once_a_pass(clips: int, batch: int) -> None:
    order = ClipOrder(clips, batch, seed=3)
    passes = 4
    steps = -(-clips * passes // batch)
    batches = [order(step) for step in range(steps)]
    assert all(b.shape == (batch,) and b.dtype == torch.int64 for b in batches)
    numbers = torch.cat(batches)[: clips * passes].view(passes, clips)
    assert torch.equal(numbers.sort(1).values, torch.arange(clips).expand(passes, -1))


def test_passes_and_seeds_have_orders_of_their_own() -> None:
    first, second = ClipOrder(100, 100, 0), ClipOrder(100, 100, 1)
    orders = [first(0), first(1), second(0)]
    assert all(not torch.equal(a, b) for a in orders for b in orders if a is not b)
    assert not torch.equal(first(0), torch.arange(100))


def test_a_batch_spans_two_passes() -> None:
    whole = ClipOrder(10, 10, 5)
    order = ClipOrder(10, 4, 5)
    assert torch.equal(order(2), torch.cat([whole(0)[8:], whole(1)[:2]]))


def test_any_step_alone_is_the_same_step() -> None:
    steps = [ClipOrder(11, 4, 9)(step) for step in range(30)]
    walked = ClipOrder(11, 4, 9)
    for step in (29, 0, 17, 3, 3, 28, 2):
        assert torch.equal(walked(step), steps[step])
