"""Matrix products by oneDNN and by PyTorch."""

import time

import pytest
import torch
import torch.nn.functional as F
from slim_kernels.runtime import matmul
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode


def relative(got: Tensor, want: Tensor) -> float:
    return ((got.double() - want).norm() / want.norm()).item()


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_products_equal_float64(dtype, onednn, monkeypatch):
    a, b, bias = torch.randn(9, 5).to(dtype), torch.randn(5, 7).to(dtype), torch.randn(7).to(dtype)
    tolerance = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
    want = a.double() @ b.double()
    if not onednn:
        monkeypatch.setattr(matmul, "_ONEDNN", None)
    for left in (a, a.t().contiguous().t()):
        for right in (b, b.t().contiguous().t()):
            assert relative(matmul.matmul(left, right), want) < tolerance
            out = torch.ones(9, 7, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
            matmul.add_matmul(out, left, right)
            assert relative(out, want + 1) < tolerance
    assert relative(matmul.linear(a, b.t(), bias), want + bias) < tolerance
    assert relative(matmul.linear(a, b.t(), bias, silu=True), F.silu(want + bias)) < 2 * tolerance
    assert (
        relative(matmul.linear(a, b.t(), bias.repeat_interleave(2)[::2]), want + bias) < tolerance
    )
    assert relative(matmul.linear(a, b.t(), bias[:1].expand(7)), want + bias[0]) < tolerance
    assert matmul.linear(a[:0], b.t(), bias).shape == (0, 7)
    weight = matmul.pack_weight(b.t().contiguous())
    assert relative(matmul.linear(a, weight, bias), want + bias) < tolerance
    assert matmul.linear(a[:0], weight, bias).shape == (0, 7)
    assert matmul.matmul(a[:, :0], b[:0]).eq(0).all()


def test_parts_of_a_matrix_are_no_slower_than_a_matrix():
    """oneDNN's own took 600 times as long."""

    def seconds(calculate, w) -> float:
        begin = time.thread_time()
        calculate(w)
        return time.thread_time() - begin

    a, wide, bias = torch.randn(256, 64), torch.randn(256, 128), torch.randn(256)
    part, whole = wide[:, 64:], wide[:, 64:].contiguous()
    for calculate in (
        lambda w: matmul.linear(a, w, bias),
        lambda w: matmul.matmul(a, w.t()),
        lambda w: matmul.matmul(a @ whole.t(), w),
    ):
        torch.testing.assert_close(calculate(part), calculate(whole))
        times = [min(seconds(calculate, w) for _ in range(5)) for w in (part, whole)]
        assert times[0] < 20 * times[1]


def test_flops_are_counted_whoever_multiplies():
    a, w, bias = torch.randn(9, 5), torch.randn(7, 5), torch.randn(7)
    for calculate in (lambda: matmul.linear(a, w, bias), lambda: matmul.matmul(a, w.t())):
        with FlopCounterMode(display=False) as counter:
            calculate()
        assert counter.get_total_flops() == 2 * 9 * 5 * 7
