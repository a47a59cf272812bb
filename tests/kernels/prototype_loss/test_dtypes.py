"""In which dtype prototype_loss computes, and how exactly."""

import math

import pytest
import torch
from slim_kernels import prototype_loss, sinkhorn_potentials

from tests.kernels.prototype_loss.conftest import materialised, unit, values_and_gradients


@pytest.mark.parametrize("target", [None, torch.arange(30).flip(0), torch.randint(30, (30, 2))])
def test_float32_is_close_and_stays_float32(target):
    e, c = (
        unit(30, 16, torch.float32).requires_grad_(),
        unit(50, 16, torch.float32).requires_grad_(),
    )
    x, d = unit(30, 16, torch.float32), unit(50, 16, torch.float32)
    loss = prototype_loss(e, c, x, d, target=target, student_temp=0.1, teacher_temp=0.04)
    got = values_and_gradients(loss, e, c)
    expected = values_and_gradients(materialised(e, c, x, d, target, None, 0.1, 0.04, 3), e, c)
    assert all(value.dtype == torch.float32 for value in got)
    for ours, theirs in zip(got, expected, strict=True):
        assert (ours - theirs).norm() <= 2e-5 * theirs.norm()


@pytest.mark.parametrize(
    ("student_temp", "teacher_temp"), [(0.1, 0.004), (0.1, 0.0249), (0.01, 0.07)]
)
def test_cold_temperatures_are_computed_in_float64(student_temp, teacher_temp):
    """exp(1 / 0.004) does not fit float32; the result must be as good as float64 rounded to
    float32.
    """
    e, c = unit(12, 8, torch.float32).requires_grad_(), unit(20, 8, torch.float32).requires_grad_()
    x, d = unit(12, 8, torch.float32), unit(20, 8, torch.float32)
    loss = prototype_loss(e, c, x, d, student_temp=student_temp, teacher_temp=teacher_temp)
    got = values_and_gradients(loss, e, c)
    expected = values_and_gradients(
        materialised(e, c, x, d, None, None, student_temp, teacher_temp, 3), e, c
    )
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() <= 5e-7 * theirs.norm()


def test_potentials_promote_below_the_limit():
    x, d = unit(4, 3, torch.float32), unit(5, 3, torch.float32)
    assert sinkhorn_potentials(x, d, 0.032).dtype == torch.float64
    assert sinkhorn_potentials(x, d, 0.033).dtype == torch.float32


@pytest.mark.parametrize("temperature", [0.04, 0.033])
def test_collapsed_features_stay_finite_in_float32(temperature):
    """All prototypes in one place, one teacher row opposite to all the others: the widest spread of
    logits there is.
    """
    pole = torch.eye(2)[:1]
    x = torch.cat([pole.repeat(999, 1), -pole])
    c = pole.repeat(512, 1)
    e = x.clone().requires_grad_()
    loss = prototype_loss(e, c, x, c, student_temp=0.1, teacher_temp=temperature)
    loss.backward()
    torch.testing.assert_close(loss.item(), 1000 * math.log(512), rtol=1e-5, atol=0)
    assert e.grad.isfinite().all()


def test_bfloat16_features_are_taken_as_they_are():
    e, c, x, d = (unit(rows, 8, torch.bfloat16) for rows in (9, 14, 9, 14))
    e.requires_grad_(), c.requires_grad_()
    loss = prototype_loss(e, c, x, d, student_temp=0.1, teacher_temp=0.05)
    got = values_and_gradients(loss, e, c)
    assert [value.dtype for value in got] == [torch.float32, torch.bfloat16, torch.bfloat16]
    expected = values_and_gradients(materialised(e, c, x, d, None, None, 0.1, 0.05, 3), e, c)
    torch.testing.assert_close(got[0].double(), expected[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(got[1].double(), expected[1].double(), rtol=1e-2, atol=1e-4)


def test_autocast_changes_nothing():
    e, c, x, d = (unit(rows, 8, torch.float32) for rows in (9, 14, 9, 14))
    e.requires_grad_(), c.requires_grad_()
    plain = values_and_gradients(
        prototype_loss(e, c, x, d, student_temp=0.1, teacher_temp=0.05), e, c
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = prototype_loss(e, c, x, d, student_temp=0.1, teacher_temp=0.05)
    assert all(
        torch.equal(a, b) for a, b in zip(plain, values_and_gradients(loss, e, c), strict=True)
    )
