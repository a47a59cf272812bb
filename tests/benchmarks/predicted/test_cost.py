"""The model's arithmetic, by hand. No figure here is a measurement."""

import pytest
import torch
from slim_kernels.cost.devices import DEVICES

from benchmarks.predicted.cost import HOST_MICROSECONDS, Prediction, kind, predict_plain
from benchmarks.predicted.flash import predict_flash, predict_rotation
from benchmarks.predicted.recording import Operation

H200 = DEVICES["H200"]


class Times:
    """Each operation of slim_kernels takes 1,000 microseconds."""

    device = H200

    def predict(self, operation, visible):
        return {"L2": 1000.0}


def test_a_large_product_takes_its_operations() -> None:
    (bound, time), (_, gap) = predict_plain(
        Operation("p", "mm", 2.0 * 8192**3, torch.bfloat16, 3 * 2.0 * 8192**2), H200
    ).items()
    assert bound == "tensor"
    assert time == pytest.approx(1e6 * 2 * 8192**3 / (0.8 * 132 * 1.83e9 * 4096))
    assert gap == 2
    in_float32 = predict_plain(Operation("p", "mm", 2.0 * 8192**3, torch.float32, 0.0), H200)
    assert in_float32["tensor"] == pytest.approx(time * 4096 / 256)


def test_an_addition_takes_its_bytes() -> None:
    limits = predict_plain(Operation("p", "add", 0, None, 4.8e9), H200)
    assert limits == {"DRAM": pytest.approx(1000 / 0.9), "launch": 2}


def small(reads: bool = False) -> Operation:
    return Operation("p", "add", 0, None, 0, reads=reads)


LARGE = Operation("p", "add", 0, None, 0.9 * 4.8e6 * 98)  # 98 and 2 microseconds


def test_the_host_runs_ahead_until_it_reads() -> None:
    free = Prediction([LARGE, *[small()] * 10], Times())
    assert free.gpu == pytest.approx(100 + 10 * 2)
    assert free.launched == pytest.approx(120)  # 11 launches take 66
    waits = Prediction([LARGE, small(reads=True), *[small()] * 9], Times())
    assert waits.gpu == pytest.approx(free.gpu)
    assert waits.launched == pytest.approx(102 + 9 * HOST_MICROSECONDS)


def test_what_is_made_beside_adds_its_work_alone() -> None:
    step = Prediction([Operation("s", "slim_kernels::norm_linear", 0, None, 0)], Times())
    views = [small(reads=True)] * 10 + [LARGE]
    step.make_beside(Prediction(views, Times()))
    assert step.gpu == step.launched == pytest.approx(1000 + 98)
    step.make_beside(Prediction(views * 100, Times()))
    assert step.launched == pytest.approx(1000 + 101 * 98)
    idle = Prediction([small()], Times())
    idle.make_beside(Prediction([small()] * 100, Times()))
    assert idle.launched == pytest.approx(101 * HOST_MICROSECONDS)


def test_rows_of_the_table() -> None:
    names = "slim_kernels::norm_linear_backward", "slim_kernels::prototype_loss_backward", "mm"
    kinds = [kind(Operation("heads, gradients", name, name == "mm", None, 0)) for name in names]
    assert kinds == ["norm_linear", "heads: other operations", "heads: products"]


def test_attention_of_the_best_library() -> None:
    # 132 sequences of one head: one an SM; 205 tokens are padded to 256
    limits = predict_flash("forward", 132, 1, 205, 32, H200)
    clocks = 2 * 2 * 32 * 256**2 / (4096 * 0.62 * 0.8)
    assert limits == {"tensor": pytest.approx(clocks / 1830), "launch": 2}
    few = predict_flash("backward", 132, 1, 1, 32, H200)
    assert few["launch"] == 6
    assert predict_rotation(10**9, H200)["DRAM"] == pytest.approx(8e9 / (0.9 * 4.8e6))
