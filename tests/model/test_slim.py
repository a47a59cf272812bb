"""The whole objective equals the eager baseline's: four padded forwards, every logit in memory,
autograd throughout.
"""

import pytest
import torch
from torch import Tensor

from benchmarks.baselines.eager_slim import EagerConfig, EagerSLiM
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.heads import HeadConfig
from slim_fast.model.slim import LossConfig, ModelConfig, SLiM
from slim_fast.views.pipeline import ViewBatch

SIZES = EagerConfig(
    joints=5, width=16, depth=2, heads=2, registers=2, head_hidden=20, head_width=12, prototypes=30
)
CONFIG = ModelConfig(EncoderConfig(width=16, depth=2, heads=2, registers=2), HeadConfig(20, 12, 30))


def pair(
    loss: LossConfig | None = None, dtype: torch.dtype = torch.float32
) -> tuple[SLiM, EagerSLiM]:
    """Ours and the baseline with the same weights, the teacher's other than the student's."""
    ours, eager = (
        SLiM(ModelConfig(CONFIG.encoder, CONFIG.head, loss or LossConfig()), 5, 3),
        EagerSLiM(SIZES),
    )
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    eager.load_state_dict(ours.state_dict())
    return ours.to(dtype), eager.to(dtype)


def eager_losses(eager: EagerSLiM, views: ViewBatch, temperature: float) -> dict[str, Tensor]:
    return eager.loss([g.clips for g in views.groups], [g.mask for g in views.groups], temperature)


@pytest.mark.parametrize("temperature", [0.04, 0.07])
@pytest.mark.parametrize(
    ("batch", "windows", "masked"),
    [
        (4, {64: 2, 32: 2, 16: 4, 8: 2}, 0.5),
        (3, {16: 2, 8: 2}, 1.0),
        (3, {16: 2, 8: 6}, 0.0),
        (2, {64: 2}, 0.5),
        (1, {32: 2, 8: 2}, 0.5),
    ],
)
def test_losses_and_gradients_equal_the_baseline(batch, windows, masked, temperature, make_views):
    ours, eager = pair()
    views = make_views(batch, windows=windows, masked=masked)
    got, expected = ours(views, temperature), eager_losses(eager, views, temperature)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-5)
    got["loss"].backward()
    expected["loss"].backward()
    theirs = dict(eager.student.named_parameters())
    assert [name for name, _ in ours.student.named_parameters()] == list(theirs)
    for name, parameter in ours.student.named_parameters():
        mine, other = (
            torch.zeros_like(p) if p.grad is None else p.grad for p in (parameter, theirs[name])
        )
        assert (mine - other).norm() <= 1e-4 * other.norm() + 1e-6, name


def test_the_total_weighs_its_terms(make_views):
    ours, _ = pair(LossConfig(contrastive=2.0, masked=3.0, koleo=0.5))
    got = ours(make_views(), 0.05)
    torch.testing.assert_close(
        got["loss"], 2 * got["contrastive"] + 3 * got["masked"] + 0.5 * got["koleo"]
    )


@pytest.mark.parametrize(
    ("loss", "terms", "idle"),
    [
        # global-local contrastive loss only
        (LossConfig(masked=0), {"contrastive", "koleo"}, "masked_head"),
        # masked feature modelling only
        (LossConfig(contrastive=0), {"masked", "koleo"}, "contrastive_head"),
        (LossConfig(koleo=0), {"contrastive", "masked"}, None),
        (LossConfig(contrastive=0, koleo=0), {"masked"}, "contrastive_head"),
    ],
)
def test_ablations_leave_a_term_out(loss, terms, idle, make_views):
    ours, eager = pair(loss)
    views = make_views()
    got, expected = ours(views, 0.05), eager_losses(eager, views, 0.05)
    assert got.keys() == {"loss", *terms}
    for name in terms:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-4, atol=1e-5)
    got["loss"].backward()
    for name, parameter in ours.student.named_parameters():
        if idle and name.startswith(idle):
            assert parameter.grad is None or not parameter.grad.any(), name
        elif name != "encoder.cls_token" or "contrastive" in terms:
            assert parameter.grad is not None, name


def test_plain_contrastive_learning_without_local_views(make_views):
    ours, eager = pair(LossConfig(masked=0))
    views = make_views(windows={32: 2}, masked=0.0)
    torch.testing.assert_close(
        ours(views, 0.05)["contrastive"],
        eager_losses(eager, views, 0.05)["contrastive"],
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_teacher_is_constant(make_views):
    ours, _ = pair()
    before = [p.clone() for p in ours.teacher.parameters()]
    assert not any(p.requires_grad for p in ours.teacher.parameters())
    ours(make_views(), 0.05)["loss"].backward()
    assert all(p.grad is None for p in ours.teacher.parameters())
    assert all(torch.equal(p, b) for p, b in zip(ours.teacher.parameters(), before, strict=True))
    assert all(p.grad is not None for p in ours.student.parameters())


def test_the_teacher_starts_as_the_student_and_shares_nothing_with_it():
    ours = SLiM(CONFIG, 5, 3)
    for student, teacher in zip(ours.student.parameters(), ours.teacher.parameters(), strict=True):
        assert torch.equal(student, teacher)
        assert student.data_ptr() != teacher.data_ptr()


def test_the_moving_average_has_its_closed_form():
    """teacher_n = Π m · teacher_0 + Σ_k (1 - m_k) Π_{j>k} m_j · student_k."""
    ours, _ = pair(dtype=torch.float64)
    momenta = [0.9, 0.994, 0.5, 1.0]
    start = [p.clone() for p in ours.teacher.parameters()]
    students = []
    for momentum in momenta:
        with torch.no_grad():
            for parameter in ours.student.parameters():
                parameter += torch.randn_like(parameter)
        students.append([p.detach().clone() for p in ours.student.parameters()])
        ours.update_teacher(momentum)
    for i, (name, teacher) in enumerate(ours.teacher.named_parameters()):
        expected = 0.9 * 0.994 * 0.5 * start[i]
        for share, student in zip(
            (0.1 * 0.994 * 0.5, 0.006 * 0.5, 0.5, 0.0), students, strict=True
        ):
            expected = expected + share * student[i]
        torch.testing.assert_close(teacher, expected, rtol=1e-10, atol=1e-10, msg=name)
    assert all(
        torch.equal(p, s) for p, s in zip(ours.student.parameters(), students[-1], strict=True)
    )


def test_steps_are_bitwise_alike(make_views):
    ours, _ = pair()
    views = make_views()
    grads = []
    for _ in range(2):
        ours.zero_grad()
        loss = ours(views, 0.05)["loss"]
        loss.backward()
        grads.append([loss.detach(), *(p.grad.clone() for p in ours.student.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_bfloat16_autocast_is_close_and_keeps_float32_losses(make_views):
    ours, _ = pair()
    views = make_views(4)
    exact = ours(views, 0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = ours(views, 0.05)
    for name, value in got.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name], rtol=0.1, atol=0.1)
    got["loss"].backward()
    assert all(
        p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in ours.student.parameters()
    )


def test_local_tokens_that_are_masked_do_not_matter_but_their_clips_do(make_views):
    ours, _ = pair()
    views = make_views()
    before = ours(views, 0.05)["loss"]
    local = views.groups[1]
    hidden = local.mask.repeat_interleave(8, 2)[..., None]
    local.clips = torch.where(hidden, torch.randn_like(local.clips), local.clips)
    assert torch.equal(ours(views, 0.05)["loss"], before)
    local.clips = torch.where(hidden, local.clips, torch.randn_like(local.clips))
    assert not torch.equal(ours(views, 0.05)["loss"], before)


@pytest.mark.parametrize("room", ["exact", "more", "all"])
def test_fixed_shapes_give_the_same_losses_and_gradients(room, make_views):
    ours, _ = pair(dtype=torch.float64)
    views = make_views(3, dtype=torch.float64)
    masked = int(views.groups[0].mask.sum())
    views.max_masked = {"exact": masked, "more": masked + 7, "all": views.groups[0].mask.numel()}[
        room
    ]
    outs = [ours(views, 0.05, fixed_shapes=fixed) for fixed in (False, True)]
    for name in outs[0]:
        torch.testing.assert_close(outs[0][name], outs[1][name], rtol=1e-10, atol=1e-10)
    parameters = list(ours.student.parameters())
    for a, b in zip(
        *(torch.autograd.grad(o["loss"], parameters, allow_unused=True) for o in outs), strict=True
    ):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def test_fixed_shapes_need_to_know_how_many_can_be_masked(make_views):
    with pytest.raises(ValueError, match="max_masked"):
        pair()[0](make_views(), 0.05, fixed_shapes=True)
