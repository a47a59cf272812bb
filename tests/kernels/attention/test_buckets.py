"""Attention padded by bucket, as a GPU without kernels takes it."""

import pytest
import torch
from slim_kernels import packed_attention
from slim_kernels.attention.buckets import attend_by_bucket
from slim_kernels.attention.reference import reference
from torch import Tensor

from tests.kernels.attention.test_packed_attention import bounds, problem


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    ("lengths", "buckets"),
    [
        ([7, 9, 3, 2, 1, 12], [2, 9, 3, 3, 1, 12]),
        ([7, 9, 3], [2, 10, 0, 4, 1, 3]),  # a longest that nobody reaches, and a bucket of nobody
        ([4, 0, 2], [3, 4]),
    ],
)
def test_by_bucket_is_as_padded_to_the_longest_of_all(
    lengths: list[int], buckets: list[int], hidden: bool
) -> None:
    qkv, time, visible = problem(lengths, hidden=hidden)
    cu_seqlens, grad = bounds(lengths), torch.randn(sum(lengths), 2, 4, dtype=torch.float64)
    results = []
    for attend in (
        lambda x: reference(x, cu_seqlens, max(lengths), time, visible),
        lambda x: attend_by_bucket(x, cu_seqlens, max(lengths), time, visible, buckets),
    ):
        x = qkv.clone().requires_grad_()
        out = attend(x)
        results.append((out, *torch.autograd.grad(out, x, grad)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-12)


def test_other_devices_go_by_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """On data-less tensors, of which nothing can be read on the host either."""
    given_buckets = []

    def attend(qkv: Tensor, *others: object) -> Tensor:
        given_buckets.append(others[-1])
        return attend_by_bucket(qkv, *others)

    monkeypatch.setattr("slim_kernels.attention.attend_by_bucket", attend)
    with torch.device("meta"):
        qkv = torch.empty(12, 3, 2, 4)
        cu_seqlens, time = torch.empty(4, dtype=torch.int32), torch.empty(12, dtype=torch.int32)
    out = packed_attention(qkv, cu_seqlens, 5, time=time, buckets=[2, 5, 1, 3])
    assert given_buckets == [[2, 5, 1, 3]]
    assert out.shape == (12, 2, 4)
