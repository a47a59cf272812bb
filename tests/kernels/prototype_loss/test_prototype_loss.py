"""prototype_loss against a float64 Sinkhorn and cross-entropy that keep every logit, as the paper
defines them.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slim_kernels import prototype_loss, sinkhorn_potentials
from slim_kernels.prototype_loss import sinkhorn
from torch import Tensor

from tests.kernels.prototype_loss.conftest import (
    assignment,
    materialised,
    unit,
    values_and_gradients,
)


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
        patch.setattr(sinkhorn, "CHUNK_LOGITS", chunk)
        patch.setattr(sinkhorn, "KEPT_LOGITS", kept)
        loss = prototype_loss(
            e,
            c,
            x,
            d,
            target=target,
            weight=weight,
            student_temp=student_temp,
            teacher_temp=teacher_temp,
            sinkhorn_iterations=iterations,
        )
        got = values_and_gradients(loss, e, c)
    expected = materialised(e, c, x, d, target, weight, student_temp, teacher_temp, iterations)
    for ours, theirs in zip(got, values_and_gradients(expected, e, c), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kept", [0, 16 * 7, 1 << 20])
@pytest.mark.parametrize("rows", [15, 16, 17, 32, 33, 48])
def test_chunks_of_rows_meet_at_their_boundaries(rows, kept, monkeypatch):
    monkeypatch.setattr(sinkhorn, "CHUNK_LOGITS", 1)  # chunks of 16 rows
    monkeypatch.setattr(sinkhorn, "KEPT_LOGITS", kept)
    assert next(sinkhorn.row_chunks(rows, 7)) == slice(0, min(rows, 16))
    e, c, x, d = (
        unit(rows, 5).requires_grad_(),
        unit(7, 5).requires_grad_(),
        unit(rows, 5),
        unit(7, 5),
    )
    got = values_and_gradients(
        prototype_loss(e, c, x, d, student_temp=0.1, teacher_temp=0.05), e, c
    )
    expected = values_and_gradients(materialised(e, c, x, d, None, None, 0.1, 0.05, 3), e, c)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("iterations", [1, 2, 3, 4])
@pytest.mark.parametrize("temperature", [0.02, 0.05])
def test_potentials_make_the_assignment(iterations, temperature):
    x, d = unit(23, 6), unit(11, 6)
    potential = sinkhorn_potentials(x, d, temperature, iterations)
    got = (x @ d.t() / temperature + potential).softmax(1)
    torch.testing.assert_close(
        got, assignment(x, d, temperature, iterations), rtol=1e-10, atol=1e-12
    )


def test_many_iterations_even_the_prototypes_out():
    x, d = unit(40, 6), unit(10, 6)
    columns = (x @ d.t() / 0.1 + sinkhorn_potentials(x, d, 0.1, 300)).softmax(1).sum(0)
    torch.testing.assert_close(
        columns, torch.full((10,), 4.0, dtype=torch.float64), rtol=1e-6, atol=0
    )


def test_gradcheck():
    e, c, x, d = unit(6, 4).requires_grad_(), unit(9, 4).requires_grad_(), unit(5, 4), unit(9, 4)
    target, weight = torch.randint(5, (6, 2)), torch.rand(6, dtype=torch.float64)

    def loss(e: Tensor, c: Tensor) -> Tensor:
        return prototype_loss(
            e, c, x, d, target=target, weight=weight, student_temp=0.1, teacher_temp=0.06
        )

    assert torch.autograd.gradcheck(loss, (e, c))


@pytest.mark.parametrize(
    "target", [None, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.int64)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_rows_cost_nothing(target, dtype):
    e, c = unit(0, 4, dtype).requires_grad_(), unit(6, 4, dtype).requires_grad_()
    x = unit(0 if target is None else 5, 4, dtype)
    loss = prototype_loss(
        e, c, x, unit(6, 4, dtype), target=target, student_temp=0.1, teacher_temp=0.05
    )
    loss.backward()
    assert loss == 0
    assert e.grad.shape == (0, 4)
    assert torch.equal(c.grad, torch.zeros(6, 4, dtype=dtype))


def test_without_teachers_the_potentials_are_zero():
    assert torch.equal(
        sinkhorn_potentials(unit(0, 3), unit(4, 3), 0.05), torch.zeros(4, dtype=torch.float64)
    )


def test_one_row_is_assigned_evenly():
    """With a single row the columns' constraint alone decides: every prototype gets 1 / K."""
    e, x, c, d = unit(1, 5), unit(1, 5), unit(8, 5), unit(8, 5)
    got = prototype_loss(e, c, x, d, student_temp=0.1, teacher_temp=0.04)
    torch.testing.assert_close(got, -(e @ c.t() / 0.1).log_softmax(1).mean())


def test_gradients_scale_with_what_comes_after_and_never_reach_the_teacher():
    e, c, x, d = (unit(rows, 4).requires_grad_() for rows in (7, 9, 7, 9))
    once = torch.autograd.grad(
        prototype_loss(e, c, x, d, student_temp=0.1, teacher_temp=0.05), (e, c)
    )
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
    torch.testing.assert_close(
        loss.detach(), materialised(e, c, x, d, None, None, 0.1, 0.05, 3).detach()
    )
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
        (
            {"student_prototypes": unit(0, 4), "teacher_prototypes": unit(0, 4)},
            "at least one prototype",
        ),
        ({"valid": torch.ones(5).bool()}, "valid must be of shape"),
        ({"sinkhorn_iterations": 0}, "sinkhorn_iterations"),
        ({"logits_budget": -1}, "logits_budget is -1"),
    ],
)
def test_what_does_not_fit_is_named(changes, words):
    arguments = {
        "student": unit(6, 4),
        "student_prototypes": unit(9, 4),
        "teacher": unit(6, 4),
        "teacher_prototypes": unit(9, 4),
        "student_temp": 0.1,
        "teacher_temp": 0.05,
    }
    with pytest.raises(ValueError, match=words):
        prototype_loss(**{**arguments, **changes})


@pytest.mark.parametrize("paired", [True, False])
def test_weights_get_their_gradient(paired):
    e, c, x, d = unit(7, 5), unit(9, 5), unit(7, 5), unit(9, 5)
    target = None if paired else torch.randint(7, (7, 2))
    valid = torch.tensor([True] * 5 + [False] * 2) if paired else None
    weight = torch.rand(7, dtype=torch.float64, requires_grad=True)
    learned = [e.requires_grad_(), c.requires_grad_(), weight]
    options = {"student_temp": 0.1, "teacher_temp": 0.05, "sinkhorn_iterations": 2}
    got = values_and_gradients(
        prototype_loss(e, c, x, d, target=target, weight=weight, valid=valid, **options), *learned
    )
    if paired:
        log_p = (e @ c.t() / 0.1).log_softmax(1)[:5]
        want = ((assignment(x[:5], d, 0.05, 2) * -log_p).sum(1) * weight[:5]).sum()
    else:
        want = materialised(e, c, x, d, target, weight, 0.1, 0.05, 2)
    for ours, theirs in zip(got, values_and_gradients(want, *learned), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert got[-1].any()


def test_the_triton_kernels_refuse_weights_that_want_a_gradient(monkeypatch):
    pytest.importorskip("triton")
    e, c, x, d = unit(4, 16), unit(6, 16), unit(4, 16), unit(6, 16)
    monkeypatch.setenv("SLIM_KERNELS", "triton")
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    options = {"weight": weight, "student_temp": 0.1, "teacher_temp": 0.1}
    with pytest.raises(ValueError, match=r"weight requires a gradient but is a constant here"):
        prototype_loss(e, c, x, d, **options)
    with torch.no_grad():
        prototype_loss(e, c, x, d, **options)


def test_constants_that_want_a_gradient_are_refused():
    e, c = unit(4, 3), unit(5, 3)
    warm = torch.tensor(0.1, requires_grad=True)
    for name in ("student_temp", "teacher_temp"):
        with pytest.raises(
            ValueError,
            match=rf"{name} requires a gradient but is a constant here; pass {name}.detach",
        ):
            prototype_loss(e, c, e, c, **{"student_temp": 0.1, "teacher_temp": 0.1, name: warm})
    for features, prototypes in ((e.clone().requires_grad_(), c), (e, c.clone().requires_grad_())):
        with pytest.raises(ValueError, match="requires a gradient but is a constant here"):
            sinkhorn_potentials(features, prototypes, 0.1)
        with torch.no_grad():
            sinkhorn_potentials(features, prototypes, 0.1)
