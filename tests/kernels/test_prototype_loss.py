"""prototype_loss against a float64 Sinkhorn and cross-entropy that keep every logit, as the paper defines them."""

import math

import pytest
import slim_kernels.sinkhorn
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from slim_kernels import prototype_loss, sinkhorn_potentials
from torch import Tensor


def unit(rows: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return F.normalize(torch.randn(rows, width, dtype=torch.float64), dim=-1).to(dtype)


def assignment(teacher: Tensor, prototypes: Tensor, temperature: float, iterations: int) -> Tensor:
    """(N, K): columns brought to 1 / K, then rows to 1 / N, `iterations` times; at last rows that sum to 1."""
    log = teacher.double() @ prototypes.double().t() / temperature
    for _ in range(iterations):
        log = log - log.logsumexp(0, keepdim=True) - math.log(log.shape[1])
        log = log - log.logsumexp(1, keepdim=True) - math.log(log.shape[0])
    return log.exp() * len(teacher)


def materialised(
    student: Tensor,
    prototypes: Tensor,
    teacher: Tensor,
    teacher_prototypes: Tensor,
    target: Tensor | None,
    weight: Tensor | None,
    student_temp: float,
    teacher_temp: float,
    iterations: int,
) -> Tensor:
    targets = assignment(teacher, teacher_prototypes, teacher_temp, iterations)
    log_p = (student.double() @ prototypes.double().t() / student_temp).log_softmax(1)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(student)):
        rows = [i] if target is None else target[i].flatten().tolist()
        entropy = sum(-(targets[n] * log_p[i]).sum() for n in rows) / len(rows)
        total = total + (1.0 if weight is None else weight[i].double()) * entropy
    return total


def values_and_gradients(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss, inputs)]


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    students=st.integers(1, 40),
    teachers=st.integers(1, 40),
    prototypes=st.integers(1, 30),
    width=st.integers(1, 9),
    references=st.sampled_from([None, 0, 1, 2, 3]),  # None: no target; 0: target (S,)
    weighted=st.booleans(),
    iterations=st.integers(1, 4),
    student_temp=st.sampled_from([0.07, 0.1, 1.0]),
    teacher_temp=st.sampled_from([0.01, 0.04, 0.07]),
    chunk=st.sampled_from([1, 300, 1 << 23]),
    kept=st.sampled_from([0, 500, 1 << 23]),
)
def test_equals_the_materialised_loss(
    seed,
    students,
    teachers,
    prototypes,
    width,
    references,
    weighted,
    iterations,
    student_temp,
    teacher_temp,
    chunk,
    kept,
):
    torch.manual_seed(seed)
    if references is None:
        teachers, target = students, None
    else:
        target = torch.randint(teachers, (students, references) if references else (students,))
    weight = torch.rand(students, dtype=torch.float64) if weighted else None
    e, c = unit(students, width).requires_grad_(), unit(prototypes, width).requires_grad_()
    x, d = unit(teachers, width), unit(prototypes, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slim_kernels.sinkhorn, "CHUNK_LOGITS", chunk)
        patch.setattr(slim_kernels.sinkhorn, "KEPT_LOGITS", kept)
        loss = prototype_loss(
            e, c, x, d, target=target, weight=weight, student_temp=student_temp, teacher_temp=teacher_temp,
            sinkhorn_iterations=iterations,
        )  # fmt: skip
        got = values_and_gradients(loss, e, c)
    expected = materialised(e, c, x, d, target, weight, student_temp, teacher_temp, iterations)
    for ours, theirs in zip(got, values_and_gradients(expected, e, c), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kept", [0, 16 * 7, 1 << 20])
@pytest.mark.parametrize("rows", [15, 16, 17, 32, 33, 48])
def test_chunks_of_rows_meet_at_their_boundaries(rows, kept, monkeypatch):
    monkeypatch.setattr(slim_kernels.sinkhorn, "CHUNK_LOGITS", 1)  # chunks of 16 rows
    monkeypatch.setattr(slim_kernels.sinkhorn, "KEPT_LOGITS", kept)
    assert next(slim_kernels.sinkhorn.row_chunks(rows, 7)) == slice(0, min(rows, 16))
    e, c, x, d = unit(rows, 5).requires_grad_(), unit(7, 5).requires_grad_(), unit(rows, 5), unit(7, 5)
    got = values_and_gradients(prototype_loss(e, c, x, d, student_temp=0.1, teacher_temp=0.05), e, c)
    expected = values_and_gradients(materialised(e, c, x, d, None, None, 0.1, 0.05, 3), e, c)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("iterations", [1, 2, 3, 4])
@pytest.mark.parametrize("temperature", [0.02, 0.05])
def test_potentials_make_the_assignment(iterations, temperature):
    x, d = unit(23, 6), unit(11, 6)
    potential = sinkhorn_potentials(x, d, temperature, iterations)
    got = (x @ d.t() / temperature + potential).softmax(1)
    torch.testing.assert_close(got, assignment(x, d, temperature, iterations), rtol=1e-10, atol=1e-12)


def test_many_iterations_even_the_prototypes_out():
    x, d = unit(40, 6), unit(10, 6)
    columns = (x @ d.t() / 0.1 + sinkhorn_potentials(x, d, 0.1, 300)).softmax(1).sum(0)
    torch.testing.assert_close(columns, torch.full((10,), 4.0, dtype=torch.float64), rtol=1e-6, atol=0)


def test_gradcheck():
    e, c, x, d = unit(6, 4).requires_grad_(), unit(9, 4).requires_grad_(), unit(5, 4), unit(9, 4)
    target, weight = torch.randint(5, (6, 2)), torch.rand(6, dtype=torch.float64)

    def loss(e: Tensor, c: Tensor) -> Tensor:
        return prototype_loss(e, c, x, d, target=target, weight=weight, student_temp=0.1, teacher_temp=0.06)

    assert torch.autograd.gradcheck(loss, (e, c))


@pytest.mark.parametrize("target", [None, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.int64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_rows_cost_nothing(target, dtype):
    e, c = unit(0, 4, dtype).requires_grad_(), unit(6, 4, dtype).requires_grad_()
    x = unit(0 if target is None else 5, 4, dtype)
    loss = prototype_loss(e, c, x, unit(6, 4, dtype), target=target, student_temp=0.1, teacher_temp=0.05)
    loss.backward()
    assert loss == 0
    assert e.grad.shape == (0, 4)
    assert torch.equal(c.grad, torch.zeros(6, 4, dtype=dtype))


def test_without_teachers_the_potentials_are_zero():
    assert torch.equal(sinkhorn_potentials(unit(0, 3), unit(4, 3), 0.05), torch.zeros(4, dtype=torch.float64))


def test_one_row_is_assigned_evenly():
    """With a single row the columns' constraint alone decides: every prototype gets 1 / K."""
    e, x, c, d = unit(1, 5), unit(1, 5), unit(8, 5), unit(8, 5)
    got = prototype_loss(e, c, x, d, student_temp=0.1, teacher_temp=0.04)
    torch.testing.assert_close(got, -(e @ c.t() / 0.1).log_softmax(1).mean())


@pytest.mark.parametrize("target", [None, torch.arange(30).flip(0), torch.randint(30, (30, 2))])
def test_float32_is_close_and_stays_float32(target):
    e, c = unit(30, 16, torch.float32).requires_grad_(), unit(50, 16, torch.float32).requires_grad_()
    x, d = unit(30, 16, torch.float32), unit(50, 16, torch.float32)
    loss = prototype_loss(e, c, x, d, target=target, student_temp=0.1, teacher_temp=0.04)
    got = values_and_gradients(loss, e, c)
    expected = values_and_gradients(materialised(e, c, x, d, target, None, 0.1, 0.04, 3), e, c)
    assert all(value.dtype == torch.float32 for value in got)
    for ours, theirs in zip(got, expected, strict=True):
        assert (ours - theirs).norm() <= 2e-5 * theirs.norm()


@pytest.mark.parametrize(("student_temp", "teacher_temp"), [(0.1, 0.004), (0.1, 0.0249), (0.01, 0.07)])
def test_cold_temperatures_are_computed_in_float64(student_temp, teacher_temp):
    """exp(1 / 0.004) does not fit float32; the result must be as good as float64 rounded to float32."""
    e, c = unit(12, 8, torch.float32).requires_grad_(), unit(20, 8, torch.float32).requires_grad_()
    x, d = unit(12, 8, torch.float32), unit(20, 8, torch.float32)
    loss = prototype_loss(e, c, x, d, student_temp=student_temp, teacher_temp=teacher_temp)
    got = values_and_gradients(loss, e, c)
    expected = values_and_gradients(materialised(e, c, x, d, None, None, student_temp, teacher_temp, 3), e, c)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() <= 5e-7 * theirs.norm()


def test_potentials_promote_below_the_limit():
    x, d = unit(4, 3, torch.float32), unit(5, 3, torch.float32)
    assert sinkhorn_potentials(x, d, 0.032).dtype == torch.float64
    assert sinkhorn_potentials(x, d, 0.033).dtype == torch.float32


@pytest.mark.parametrize("temperature", [0.04, 0.033])
def test_collapsed_features_stay_finite_in_float32(temperature):
    """All prototypes in one place, one teacher row opposite to all the others: the widest spread of logits there is."""
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
    plain = values_and_gradients(prototype_loss(e, c, x, d, student_temp=0.1, teacher_temp=0.05), e, c)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = prototype_loss(e, c, x, d, student_temp=0.1, teacher_temp=0.05)
    assert all(torch.equal(a, b) for a, b in zip(plain, values_and_gradients(loss, e, c), strict=True))


def test_gradients_scale_with_what_comes_after_and_never_reach_the_teacher():
    e, c, x, d = (unit(rows, 4).requires_grad_() for rows in (7, 9, 7, 9))
    once = torch.autograd.grad(prototype_loss(e, c, x, d, student_temp=0.1, teacher_temp=0.05), (e, c))
    (3 * prototype_loss(e, c, x, d, student_temp=0.1, teacher_temp=0.05)).backward()
    torch.testing.assert_close((e.grad, c.grad), (3 * once[0], 3 * once[1]))
    assert x.grad is None
    assert d.grad is None


@pytest.mark.parametrize("wanted", [(True, False), (False, True), (False, False)])
def test_gradients_that_nobody_asked_for_are_left_out(wanted):
    e, c = (unit(rows, 4).requires_grad_(want) for rows, want in zip((7, 9), wanted, strict=True))
    x, d = unit(7, 4), unit(9, 4)
    loss = prototype_loss(e, c, x, d, student_temp=0.1, teacher_temp=0.05)
    assert loss.requires_grad == any(wanted)
    if any(wanted):
        loss.backward()
    torch.testing.assert_close(loss.detach(), materialised(e, c, x, d, None, None, 0.1, 0.05, 3).detach())
    assert (e.grad is not None, c.grad is not None) == wanted


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher": unit(6, 5)}, "same width"),
        ({"teacher_prototypes": unit(8, 4)}, "same number of prototypes"),
        ({"teacher": unit(5, 4)}, "its own teacher row"),
        ({"target": torch.zeros(6, dtype=torch.int32)}, "int64"),
        ({"target": torch.zeros(5, dtype=torch.int64)}, "target must be"),
        ({"target": torch.zeros(6, 1, 1, dtype=torch.int64)}, "target must be"),
        ({"student_temp": 0.003}, "student_temp is 0.003"),
        ({"teacher_temp": 0.0}, "teacher_temp"),
        ({"teacher_temp": float("nan")}, "teacher_temp is nan"),
        ({"target": torch.tensor([0, 1, 2, 3, 4, 6])}, "within 0 and 5"),
        ({"weight": torch.ones(5)}, "weight must be of shape"),
        ({"valid": torch.ones(6)}, "valid must be bool"),
        ({"target": torch.zeros(6, 0, dtype=torch.int64)}, "target must be"),
        ({"student": torch.zeros(6, 4, dtype=torch.int64)}, "student must hold floating-point"),
        ({"student_prototypes": unit(0, 4), "teacher_prototypes": unit(0, 4)}, "at least one prototype"),
        ({"valid": torch.ones(5).bool()}, "valid must be of shape"),
        ({"sinkhorn_iterations": 0}, "sinkhorn_iterations"),
    ],
)
def test_what_does_not_fit_is_named(changes, words):
    arguments = {
        "student": unit(6, 4), "student_prototypes": unit(9, 4), "teacher": unit(6, 4),
        "teacher_prototypes": unit(9, 4), "student_temp": 0.1, "teacher_temp": 0.05,
    }  # fmt: skip
    with pytest.raises(ValueError, match=words):
        prototype_loss(**{**arguments, **changes})
