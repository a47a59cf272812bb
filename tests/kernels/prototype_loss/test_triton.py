"""The Triton kernels of prototype_loss, interpreted on the CPU, against the streamed loss, whose
oracle keeps every logit.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from slim_kernels import prototype_loss
from torch import Tensor

pytest.importorskip("triton", reason="the Triton kernels need triton")
from slim_kernels.prototype_loss import triton as prototype_triton
from slim_kernels.prototype_loss import triton_inputs, triton_passes, triton_stored

from tests.kernels.prototype_loss.losses import ALL, NONE, assert_alike, kernels, stored, streamed


def unit(rows: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return (
        F.normalize(torch.randn(rows, width, dtype=torch.float64), dim=-1)
        .to(dtype)
        .requires_grad_()
    )


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    students=st.sampled_from([1, 5, 63, 65]),
    teachers=st.sampled_from([1, 2, 31, 70]),
    prototypes=st.sampled_from([1, 31, 64, 129, 300]),
    width=st.sampled_from([1, 3, 16, 24]),
    references=st.sampled_from([0, 1, 2]),
    weighted=st.booleans(),
    iterations=st.integers(1, 4),
    budget=st.sampled_from([ALL, NONE]),
    chunk=st.sampled_from([1, 1 << 30]),
)
def test_equals_the_streamed_loss(
    seed, students, teachers, prototypes, width, references, weighted, iterations, budget, chunk
):
    torch.manual_seed(seed)
    target = torch.randint(0, teachers, (students, references)) if references else None
    if target is None:
        teachers = students
    weight = torch.rand(students, dtype=torch.float64) if weighted else None
    inputs = (
        unit(students, width),
        unit(prototypes, width),
        unit(teachers, width),
        unit(prototypes, width),
    )
    options = {"target": target, "weight": weight, "iterations": iterations, "budget": budget}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_stored, "CHUNK_BYTES", chunk * 8 * 320 * 30)  # 30 rows or all
        assert_alike(1e-10, *inputs, **options)


@pytest.mark.parametrize("splits", [1, 3, 8])
def test_splits_of_the_columns_are_put_together(splits, monkeypatch):
    monkeypatch.setattr(triton_passes, "MOST_SPLITS", splits)
    assert_alike(1e-10, unit(10, 8), unit(700, 8), unit(10, 8), unit(700, 8))


@pytest.mark.parametrize("splits", [1, 2, 64])
def test_splits_of_stored_logits_are_put_together(splits, monkeypatch):
    monkeypatch.setattr(triton_passes, "MOST_SPLITS", splits)
    monkeypatch.setattr(triton_passes, "MOST_PARTS", splits)
    assert_alike(1e-10, unit(30, 8), unit(2100, 8), unit(30, 8), unit(2100, 8), budget=ALL)


def test_logits_are_stored_where_the_budget_allows(monkeypatch):
    """40 x 33 prototypes, a row of 48 numbers of 8 bytes."""
    ways = []
    for way in ("stored", "streamed"):
        real = getattr(prototype_triton, f"{way}_loss")
        monkeypatch.setattr(
            prototype_triton, f"{way}_loss", lambda i, w=way, r=real: ways.append(w) or r(i)
        )
    inputs = [unit(n, 8) for n in (40, 33, 40, 33)]
    for budget in (40 * 48 * 8, 40 * 48 * 8 - 1, 0):
        kernels(*inputs, budget=budget)
    monkeypatch.setenv("SLIM_KERNELS", "triton")
    for budget in (None, 0):
        options = {"student_temp": 0.1, "teacher_temp": 0.1, "logits_budget": budget}
        prototype_loss(*inputs, **options)
    assert ways == ["stored", "streamed", "streamed", "stored", "streamed"]


@pytest.mark.parametrize("kernels", [kernels, stored])
def test_float32_at_the_published_width(kernels):
    sizes = (70, 200, 70, 200)
    exact = [unit(n, 256) for n in sizes]
    low = [x.detach().float().requires_grad_() for x in exact]
    got, want = kernels(*low), streamed(*exact)
    assert (got - want).abs() < 1e-5 * want
    for ours, theirs in zip(
        torch.autograd.grad(got, low[:2]), torch.autograd.grad(want, exact[:2]), strict=True
    ):
        assert (ours.double() - theirs).norm() < 1e-4 * theirs.norm()


@pytest.mark.parametrize("budget", [ALL, NONE])
@pytest.mark.parametrize("paired", [True, False])
def test_float16_operands_lose_nothing_to_weights_far_apart(budget, paired, monkeypatch):
    """As on a GPU, whose operands are scaled: unscaled, the gradients of the light rows would
    vanish.
    """
    monkeypatch.setattr(triton_inputs, "operand_type", lambda _: torch.float16)
    target = None if paired else torch.arange(60).flip(0)[:, None]
    exact = [unit(n, 16) for n in (60, 90, 60, 90)]
    low = [x.detach().float().requires_grad_() for x in exact]
    for weight in (torch.logspace(-9, 0, 60), torch.full((60,), 1e-8)):
        got = kernels(*low, target, weight, budget=budget)
        want = streamed(*exact, target, weight.double())
        assert (got - want).abs() < 1e-3 * want
        for ours, theirs in zip(
            torch.autograd.grad(got, low[:2]), torch.autograd.grad(want, exact[:2]), strict=True
        ):
            assert (ours.double() - theirs).norm() < 2e-3 * theirs.norm()


@pytest.mark.parametrize("loss", [kernels, stored, streamed])
def test_a_scaled_loss_of_float16_features(loss):
    """The scale alone does not fit float16, the gradients do."""
    student, prototypes, teacher, teacher_prototypes = (
        unit(n, 8, torch.float16) for n in (9, 30, 9, 30)
    )
    weight = torch.full((9,), 1e-4, dtype=torch.float16)
    value = loss(student, prototypes, teacher, teacher_prototypes, weight=weight)
    assert value.dtype == torch.float32
    scaled, plain = (
        torch.autograd.grad(value, [student, prototypes], g, retain_graph=True)
        for g in (torch.tensor(65536.0), torch.tensor(1.0))
    )
    for a, b in zip(scaled, plain, strict=True):
        assert a.dtype == torch.float16
        assert a.isfinite().all()
        assert (a.float() - 65536 * b.float()).norm() < 0.05 * a.float().norm()


@pytest.mark.parametrize("valid", ["some", "one", "all"])
@pytest.mark.parametrize("loss", [kernels, stored, streamed])
def test_padding_rows_change_nothing(valid, loss):
    keep = {
        "some": torch.tensor([1, 0, 0, 1, 1, 0, 1]),
        "one": torch.arange(7) == 3,
        "all": torch.ones(7),
    }[valid].bool()
    student, prototypes, teacher, teacher_prototypes = (
        unit(7, 8),
        unit(40, 8),
        unit(7, 8),
        unit(40, 8),
    )
    weight = torch.rand(7, dtype=torch.float64) * keep
    padded = loss(student, prototypes, teacher, teacher_prototypes, weight=weight, valid=keep)
    plain = streamed(
        student[keep], prototypes, teacher[keep], teacher_prototypes, weight=weight[keep]
    )
    torch.testing.assert_close(padded, plain, rtol=1e-10, atol=1e-10)
    for a, b in zip(
        *(torch.autograd.grad(x, [student, prototypes]) for x in (padded, plain)), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("loss", [kernels, stored, streamed])
def test_padding_is_passed_over_with_targets_too(loss):
    keep = torch.tensor([1, 0, 1, 1, 0]).bool()
    student, prototypes, teacher, teacher_prototypes = (
        unit(6, 8),
        unit(40, 8),
        unit(5, 8),
        unit(40, 8),
    )
    target = torch.tensor([[0, 2], [3, 2], [0, 0], [2, 3], [3, 3], [2, 0]])
    padded = loss(student, prototypes, teacher, teacher_prototypes, target=target, valid=keep)
    moved = (keep.cumsum(0) - 1)[target]
    plain = streamed(student, prototypes, teacher[keep], teacher_prototypes, target=moved)
    torch.testing.assert_close(padded, plain, rtol=1e-10, atol=1e-10)
    for a, b in zip(
        *(torch.autograd.grad(x, [student, prototypes]) for x in (padded, plain)), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


# the interpreter's logarithm of 0, which is meant
@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("loss", [kernels, stored, streamed])
def test_nothing_but_padding(loss):
    student, prototypes = unit(3, 8), unit(20, 8)
    none = torch.zeros(3, dtype=torch.bool)
    out = loss(
        student,
        prototypes,
        unit(3, 8),
        unit(20, 8),
        weight=torch.zeros(3, dtype=torch.float64),
        valid=none,
    )
    assert float(out.detach()) == 0
    assert not any(g.any() for g in torch.autograd.grad(out, [student, prototypes]))


@pytest.mark.parametrize("kernels", [kernels, stored])
def test_no_rows_give_zero_with_zero_gradients(kernels):
    student, prototypes = unit(0, 8), unit(20, 8)
    out = kernels(student, prototypes, unit(0, 8), unit(20, 8))
    assert float(out.detach()) == 0
    grads = torch.autograd.grad(out, [student, prototypes])
    assert grads[0].shape == (0, 8)
    assert not grads[1].any()


@pytest.mark.parametrize("kernels", [kernels, stored])
def test_runs_are_bitwise_alike(kernels):
    inputs = [unit(n, 16, torch.float32) for n in (30, 90, 12, 90)]
    target = torch.randint(0, 12, (30, 2))
    runs = []
    for _ in range(2):
        loss = kernels(*inputs, target=target)
        runs.append([loss.detach(), *torch.autograd.grad(loss, inputs[:2])])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("kernels", [kernels, stored])
def test_gradcheck(kernels):
    student, prototypes, teacher, teacher_prototypes = (
        unit(3, 4),
        unit(5, 4),
        unit(3, 4),
        unit(5, 4),
    )
    teacher, teacher_prototypes = teacher.detach(), teacher_prototypes.detach()
    assert torch.autograd.gradcheck(
        lambda e, c: kernels(e, c, teacher, teacher_prototypes),
        (student, prototypes),
        fast_mode=True,
    )


def test_only_the_gradients_that_are_needed(monkeypatch):
    monkeypatch.setenv("SLIM_KERNELS", "triton")
    student, prototypes, teacher = unit(4, 8), unit(20, 8), unit(4, 8)
    # the dispatcher takes the kernels
    loss = streamed(student, prototypes.detach(), teacher, unit(20, 8))
    assert "slim_kernels" in loss.grad_fn.name()
    (grad,) = torch.autograd.grad(loss, student)
    with torch.no_grad():
        assert streamed(student, prototypes, teacher, unit(20, 8)).grad_fn is None
    assert grad.any()


@pytest.mark.parametrize("budget", [ALL, NONE])
@pytest.mark.parametrize("target", [None, torch.tensor([[0, 1], [1, 1], [2, 0]])])
def test_registration_holds(target, budget):
    student, prototypes = unit(3, 8, torch.float32), unit(20, 8, torch.float32)
    teacher, teacher_prototypes = (
        unit(3, 8, torch.float32).detach(),
        unit(20, 8, torch.float32).detach(),
    )
    arguments = (
        student,
        prototypes,
        teacher,
        teacher_prototypes,
        target,
        torch.ones(3),
        torch.ones(3).bool(),
    )
    options = (0.1, 0.04, 3, None, budget, True, True)
    torch.library.opcheck(prototype_triton.prototype_loss, (*arguments, *options))
    torch.library.opcheck(
        prototype_triton.prototype_loss_backward,
        (torch.tensor(2.0), student.detach(), torch.float16),
    )
