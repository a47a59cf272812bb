"""The three losses against their sums written out term by term with every logit in memory."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slim_fast.model.heads import HeadConfig, PrototypeHead
from slim_fast.model.objectives import (
    contrastive_loss,
    koleo,
    koleo_of_part,
    masked_feature_loss,
    nearest_rows,
)

CONFIG = HeadConfig(hidden=12, bottleneck=6, prototypes=9)


def head(width: int = 7) -> PrototypeHead:
    made = PrototypeHead(width, CONFIG).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += torch.randn_like(parameter)
    return made


def logits(x: Tensor, of: PrototypeHead) -> Tensor:
    hidden = of.mlp(x)
    return (
        hidden
        / hidden.norm(dim=-1, keepdim=True)
        @ (of.prototypes / of.prototypes.norm(dim=-1, keepdim=True)).t()
    )


def assignment(cosines: Tensor, temperature: float) -> Tensor:
    plan = (cosines / temperature).exp()
    for _ in range(3):
        plan = plan / plan.sum(0) / plan.shape[1]
        plan = plan / plan.sum(1, keepdim=True) / plan.shape[0]
    return plan / plan.sum(1, keepdim=True)


def entropy(target: Tensor, cosines: Tensor) -> Tensor:
    return -(target * (cosines / 0.1).log_softmax(-1)).sum(-1)


@pytest.mark.parametrize("local_counts", [(2, 4, 2), (2,), ()])
def test_the_contrastive_loss_is_the_mean_over_all_terms(local_counts):
    """2 global-global and 2 × (number of local views) local-global terms, 18 with the recipe's
    eight local views.
    """
    batch, student_head, teacher_head = 4, head(), head()
    student = [torch.randn(batch, n, 7, dtype=torch.float64) for n in (2, *local_counts)]
    teacher = torch.randn(batch, 2, 7, dtype=torch.float64)
    targets = assignment(logits(teacher.flatten(0, 1), teacher_head), 0.05).view(batch, 2, -1)
    terms = [
        entropy(targets[:, 0], logits(student[0][:, 1], student_head)).mean(),
        entropy(targets[:, 1], logits(student[0][:, 0], student_head)).mean(),
    ]
    for group in student[1:]:
        for view in group.unbind(1):
            terms += [entropy(targets[:, g], logits(view, student_head)).mean() for g in (0, 1)]
    assert len(terms) == 2 + 2 * sum(local_counts)
    got = contrastive_loss(student, teacher, student_head, teacher_head, 0.05)
    # weights are float32
    torch.testing.assert_close(got, torch.stack(terms).mean(), rtol=1e-6, atol=1e-6)


def test_the_masked_loss_averages_within_views():
    """Sum over views of the mean over a view's masked positions, over 2B views."""
    student_head, teacher_head = head(), head()
    counts = [3, 0, 5, 1]  # masked positions of 4 = 2B views
    student, teacher = (torch.randn(9, 7, dtype=torch.float64) for _ in range(2))
    each = entropy(
        assignment(logits(teacher, teacher_head), 0.06), logits(student, student_head)
    ).split(counts)
    expected = sum(view.mean() for view in each if len(view)) / 4
    weight = torch.cat([torch.full((n,), 1 / (4 * max(n, 1)), dtype=torch.float64) for n in counts])
    got = masked_feature_loss(student, teacher, weight, None, student_head, teacher_head, 0.06)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_koleo_by_hand():
    angles = torch.tensor([0.0, 10.0, 90.0, 200.0], dtype=torch.float64).deg2rad()
    lengths = torch.tensor([1.0, 5.0, 0.1, 3.0], dtype=torch.float64)
    features = (lengths[:, None] * torch.stack([angles.cos(), angles.sin()], 1)).requires_grad_()
    nearest = [10.0, 10.0, 80.0, 110.0]  # degrees to the nearest neighbour
    chords = [2 * math.sin(math.radians(a) / 2) for a in nearest]
    expected = -sum(math.log(c + 1e-6) for c in chords) / 4
    got = koleo(features)
    assert got.item() == pytest.approx(expected, rel=1e-9)
    got.backward()
    assert (features.grad * features.detach()).sum(1).abs().max() < 1e-9  # lengths do not matter


def test_koleo_pushes_neighbours_apart():
    features = F.normalize(torch.randn(6, 4, dtype=torch.float64), dim=1).requires_grad_()
    before = koleo(features)
    before.backward()
    assert koleo(features - 0.01 * features.grad) < before
    assert torch.autograd.gradcheck(koleo, (features,))


@pytest.mark.parametrize("rows", [0, 1])
def test_koleo_of_a_lonely_row_is_zero_with_a_zero_gradient(rows):
    features = torch.randn(rows, 4, requires_grad=True)
    loss = koleo(features)
    loss.backward()
    assert loss == 0
    assert torch.equal(features.grad, torch.zeros(rows, 4))


def test_koleo_of_duplicates_is_finite():
    features = torch.randn(1, 4).repeat(3, 1).requires_grad_()
    loss = koleo(features)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1e-6), rel=0.1)
    assert features.grad.isfinite().all()


def test_koleo_of_zero_features_is_finite():
    features = torch.zeros(3, 4, requires_grad=True)
    loss = koleo(features)
    loss.backward()
    assert loss.isfinite()
    assert features.grad.isfinite().all()


def test_koleo_is_computed_in_float32_under_autocast():
    features = F.normalize(torch.randn(8, 16), dim=1)
    close = torch.cat([features, F.normalize(features + 1e-3 * torch.randn_like(features), dim=1)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert koleo(close) == koleo(close.clone())
        got = koleo(close)
    torch.testing.assert_close(got, koleo(close), rtol=1e-6, atol=0)


@pytest.mark.parametrize("autocast", [False, True])
def test_logits_are_cosines(autocast):
    made = PrototypeHead(7, CONFIG)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter *= 50
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        features, prototypes = made(torch.randn(200, 7) * 100), made.unit_prototypes()
    assert features.dtype == prototypes.dtype == torch.float32
    torch.testing.assert_close(features.norm(dim=1), torch.ones(200))
    torch.testing.assert_close(prototypes.norm(dim=1), torch.ones(9))
    assert (features @ prototypes.t()).abs().max() <= 1 + 1e-6


def test_prototypes_gains_do_not_matter():
    """Scaling a prototype changes nothing, and its gradient is at right angles to it."""
    made = PrototypeHead(7, CONFIG).double()
    unit = made.unit_prototypes()
    (unit * torch.randn_like(unit)).sum().backward()
    along = (made.prototypes.grad * made.prototypes).sum(1)
    assert along.abs().max() < 1e-9 * made.prototypes.grad.norm()
    with torch.no_grad():
        made.prototypes *= torch.rand(9, 1) + 0.5
    torch.testing.assert_close(made.unit_prototypes(), unit)


def test_a_head_survives_zero_features():
    made = PrototypeHead(7, CONFIG)
    x = torch.zeros(2, 7, requires_grad=True)
    with torch.no_grad():
        for layer in made.mlp[::2]:
            layer.bias.zero_()
    out = made(x)
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()


def test_heads_have_the_published_sizes():
    made = PrototypeHead(256, HeadConfig())
    shapes = [tuple(p.shape) for p in made.parameters()]
    assert shapes == [
        (65536, 256),
        (2048, 256),
        (2048,),
        (2048, 2048),
        (2048,),
        (256, 2048),
        (256,),
    ]


def test_koleo_of_parts_is_that_of_the_batch() -> None:
    """Neighbours that each part searches for its own rows are those of a search among all."""
    whole = torch.randn(12, 5, requires_grad=True)
    expected = koleo(whole)
    (wanted,) = torch.autograd.grad(expected, whole)
    nearest = torch.cat([nearest_rows(whole, first, 4) for first in (0, 4, 8)])
    assert torch.equal(nearest, nearest_rows(whole, 0, 12))
    for first in (0, 4, 8):
        part = whole.detach()[first : first + 4].requires_grad_()
        loss = koleo_of_part(part, whole.detach(), first, nearest)
        torch.testing.assert_close(loss, expected)
        (got,) = torch.autograd.grad(loss, part)
        torch.testing.assert_close(got, 3 * wanted[first : first + 4])
