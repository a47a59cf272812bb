"""Results of functions of tensors are cached."""

import torch
from slim_kernels.runtime.tensor_cache import cached_tensors
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode


def test_results_of_tensors_are_cached_until_a_tensor_changes():
    calls = []

    @cached_tensors(2)
    def total(x: Tensor, times: int) -> int:
        calls.append(times)
        return int(x.sum()) * times

    x = torch.ones(3)
    assert [total(x, 2), total(x, 2), total(x, 3)] == [6, 6, 9]
    assert calls == [2, 3]
    x += 1
    assert total(x, 2) == 12
    x.data[0] = 7
    assert total(x, 2) == 22
    assert total(torch.ones(3), 2) == 6
    with torch.inference_mode():
        uncounted = torch.ones(3)
        assert total(uncounted, 2) == 6
        uncounted += 1
        assert total(uncounted, 2) == 12


def test_cached_tensors_serve_training_whoever_made_them():
    """A table made without data, or in inference mode, must not be returned to a training step."""
    made = []

    @cached_tensors(2)
    def table(n: int) -> torch.Tensor:
        made.append(n)
        return torch.arange(float(n))

    with FakeTensorMode():
        assert type(table(3)) is not torch.Tensor
    with torch.inference_mode():
        assert not table(3).is_inference()
    assert table(3) is table(3)
    assert made == [3, 3]
    table(4), table(5)
    table(3)
    assert made == [3, 3, 4, 5, 3]
