"""What one operation moves and computes, by hand, and to which part of a step it belongs."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.predicted.recording import NOTHING, Operation, Recorder


def record(run, **options) -> list[Operation]:
    with Recorder(**options) as recorder:
        run()
    return recorder.operations


def test_a_product() -> None:
    a, b = torch.randn(6, 8).bfloat16(), torch.randn(8, 4).bfloat16()
    (found,) = record(lambda: a @ b)
    assert (found.name, found.flops, found.dtype) == ("mm", 2 * 6 * 8 * 4, torch.bfloat16)
    assert found.bytes == 2 * (6 * 8 + 8 * 4 + 6 * 4)


a, wide, index = torch.randn(6, 4), torch.randn(100, 4), torch.tensor([3, 5])


@pytest.mark.parametrize(
    ("run", "numbers"),
    [
        (lambda: a + a, 3 * 24),
        (lambda: a + a[0], 2 * 24 + 4),
        (lambda: a + a[:1].expand(6, 4), 2 * 24 + 4),  # a repeated number is read once
        (lambda: a.clone().add_(a), 2 * 24 + 3 * 24),
        (lambda: torch.empty(6, 4).copy_(a), 2 * 24),  # what is overwritten is not read
        (lambda: torch.zeros(6, 4), 24),
        (lambda: torch.add(a, a, out=torch.empty(6, 4)), 3 * 24),
        (lambda: wide.index_select(0, index), 2 * 2 + 2 * 8),  # int64: twice a float's bytes
        (lambda: wide[index], 2 * 2 + 2 * 8),
        (lambda: wide.index_add_(0, index, a[:2]), 2 * 2 + 3 * 8),
        (lambda: a.sum(), 24 + 1),
        (lambda: a.view(24)[None].transpose(0, 1), 0),
        (lambda: torch.empty(9), 0),
    ],
)
def test_bytes(run, numbers: int) -> None:
    assert sum(found.bytes for found in record(run)) == 4 * numbers


def test_a_sort_sweeps_four_times() -> None:
    (found,) = record(lambda: torch.sort(a[:, 0]))
    assert found.bytes == 4 * (6 * 4 + 6 * 4 + 6 * 8)


def test_gradients_belong_to_the_part_of_their_forward() -> None:
    x = torch.randn(3, 3, requires_grad=True)
    recorder = Recorder()
    with recorder:
        with recorder.part("first"):
            y = x @ x
        recorder.label([y], "first, gradients")
        with recorder.part("second"):
            loss = y.exp().sum()
        with recorder.part(NOTHING):
            x.sum()
        loss.backward()
    parts = [(found.part, found.name) for found in recorder.operations]
    assert ("first", "mm") in parts
    assert parts.count(("first, gradients", "mm")) == 2
    assert ("second", "exp") in parts
    assert ("rest", "mul") in parts  # the gradient of exp, which has no label
    assert ("second", "mm") not in parts
    assert (NOTHING, "sum") not in parts


def test_masks_without_data_hold_what_is_said() -> None:
    with FakeTensorMode():
        mask, x = torch.rand(3, 5) < 0.5, torch.randn(3, 5, 2, requires_grad=True)
        recorder = Recorder({15: 4})
        with recorder:
            chosen = x[mask]
            assert chosen.shape == (4, 2)
            assert mask.nonzero().shape == (4, 2)
            chosen.sum().backward()
            assert bool(mask.any())
    assert x.grad is not None
    assert x.grad.shape == x.shape
    assert [found.name for found in recorder.operations if found.reads] == [
        "nonzero",
        "_local_scalar_dense",
    ]
