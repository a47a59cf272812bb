"""The linear classifier: it finds the optimum, separates what can be, and never learns from the
test rows.
"""

import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from slim_fast.errors import UserError
from slim_fast.evaluation import linear
from slim_fast.evaluation.linear import DECAYS, compute_linear_accuracy, fit_linear_head


def blobs(
    rows: int, width: int, classes: int, spread: float, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(99)
    centres = 5 * torch.randn(classes, width, generator=generator) + 20
    generator.manual_seed(seed)
    labels = torch.arange(rows) % classes
    return centres[labels] + spread * torch.randn(rows, width, generator=generator), labels


def held_out(rows: int) -> Tensor:
    return torch.arange(rows) % 7 == 0


@pytest.mark.parametrize("width", [3, 200])  # fewer and more features than rows
def test_separable_classes_are_separated(width):
    train, labels = blobs(90, width, 4, 0.3)
    test, test_labels = blobs(50, width, 4, 0.3, seed=1)
    accuracy, decay = compute_linear_accuracy(train, labels, test, test_labels, held_out(90))
    assert accuracy == 1.0
    assert decay in DECAYS


@pytest.mark.parametrize("width", [4, 150])
@pytest.mark.parametrize("decay", DECAYS)
def test_it_reaches_the_optimum(width, decay, monkeypatch):
    """Accuracy as that of a float64 classifier whose gradient vanishes, on data that cannot be
    separated.
    """
    monkeypatch.setattr(linear, "DECAYS", (decay,))
    train, labels = blobs(120, width, 3, 12.0)
    test, test_labels = blobs(300, width, 3, 12.0, seed=1)
    x, y = (
        (rows - train.mean(0)).double() / train.double().std(0, correction=0)
        for rows in (train, test)
    )
    weight = torch.zeros(3, width + 1, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        logits = x @ weight[:, :-1].t() + weight[:, -1]
        return F.cross_entropy(logits, labels) + decay / 2 * weight[:, :-1].square().sum()

    optimizer = torch.optim.LBFGS(
        [weight],
        max_iter=2000,
        tolerance_grad=1e-9,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    assert torch.autograd.grad(loss(), weight)[0].abs().max() < 1e-6
    fitted, bias = linear._fit(x.float(), labels, 3, decay)
    assert (fitted - weight[:, :-1]).norm() < 0.02 * weight[:, :-1].norm()
    torch.testing.assert_close(bias.double(), weight[:, -1].detach(), rtol=0.02, atol=0.01)
    expected = (
        ((y @ weight[:, :-1].t() + weight[:, -1]).argmax(1) == test_labels).double().mean().item()
    )
    accuracy, chosen = compute_linear_accuracy(train, labels, test, test_labels, held_out(120))
    assert chosen == decay
    assert accuracy == pytest.approx(expected, abs=2 / 300)


def test_the_decay_is_chosen_on_held_out_training_rows_only():
    train, labels = blobs(80, 60, 4, 9.0)
    test, test_labels = blobs(60, 60, 4, 9.0, seed=1)
    accuracy, decay = compute_linear_accuracy(train, labels, test, test_labels, held_out(80))
    others = [(test, test_labels.flip(0)), (test, (test_labels + 1) % 4), (-3 * test, test_labels)]
    for other, other_labels in [*others, (test[:1], labels[:1])]:
        assert compute_linear_accuracy(train, labels, other, other_labels, held_out(80))[1] == decay
    on_test = []
    for only in DECAYS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(linear, "DECAYS", (only,))
            on_test.append(
                compute_linear_accuracy(train, labels, test, test_labels, held_out(80))[0]
            )
    assert accuracy == on_test[DECAYS.index(decay)]


def test_the_held_out_rows_decide():
    """A feature that gives the label away on the other rows, but not on those held out, calls for a
    strong decay.
    """
    torch.manual_seed(1)
    labels = torch.arange(200) % 2
    rows = held_out(200)
    honest = (labels * 2.0 - 1)[:, None] + 1.5 * torch.randn(200, 1)
    overfit = torch.randn(200, 150)
    train = torch.cat([honest, overfit], 1)
    decay = compute_linear_accuracy(train, labels, train, labels, rows)[1]
    accuracies = []
    for only in DECAYS:
        weight, bias = linear._fit(*_standardised(train, labels, rows), 2, only)
        x = (train - train.mean(0)) / train.std(0, correction=0)
        accuracies.append(((x[rows] @ weight.t() + bias).argmax(1) == labels[rows]).double().mean())
    assert decay == DECAYS[int(torch.stack(accuracies).argmax())]
    assert max(accuracies) > min(accuracies)


def _standardised(train: Tensor, labels: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    return ((train - train.mean(0)) / train.std(0, correction=0))[~rows], labels[~rows]


def test_scales_and_offsets_of_features_do_not_matter():
    train, labels = blobs(90, 6, 3, 6.0)
    test, test_labels = blobs(200, 6, 3, 6.0, seed=1)
    plain = compute_linear_accuracy(train, labels, test, test_labels, held_out(90))
    scale, offset = torch.tensor([1e-3, 1.0, 50.0, 0.1, 7.0, 1e3]), torch.randn(6)
    moved = compute_linear_accuracy(
        train * scale + offset, labels, test * scale + offset, test_labels, held_out(90)
    )
    assert moved[0] == pytest.approx(plain[0], abs=0.02)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, -7.7])
@pytest.mark.parametrize("width", [3, 200])
def test_a_feature_that_is_constant_in_training_is_ignored(value, width):
    train, labels = blobs(90, width, 3, 0.3)
    test, test_labels = blobs(60, width, 3, 0.3, seed=1)
    train, test = (
        torch.cat([train, torch.full((90, 1), value)], 1),
        torch.cat([test, torch.randn(60, 1)], 1),
    )
    assert compute_linear_accuracy(train, labels, test, test_labels, held_out(90))[0] == 1.0


def test_it_works_inside_no_grad():
    train, labels = blobs(30, 3, 2, 0.3)
    with torch.no_grad():
        assert compute_linear_accuracy(train, labels, train, labels, held_out(30))[0] == 1.0


@pytest.mark.parametrize("rows", [200, 12])
def test_a_head_is_the_optimum_on_standardised_features_and_reads_them_as_they_are(rows):
    """At the minimum the gradient is zero: decay · w = mean of (truth - probability) · standardised
    feature.
    """
    x = torch.randn(rows, 20) * torch.linspace(0.1, 5, 20) + torch.linspace(-3, 8, 20)
    labels = (x[:, 3] > x[:, 3].median()).long() + (torch.arange(rows) % 2)
    weight, bias, decay = fit_linear_head(x, labels, torch.arange(rows) % 4 == 0, 3)
    mean, spread = x.double().mean(0), x.double().std(0, correction=0)
    residual = F.one_hot(labels, 3).double() - (
        x.double() @ weight.double().t() + bias.double()
    ).softmax(1)
    pull = residual.t() @ ((x.double() - mean) / spread) / rows
    assert (pull - decay * weight.double() * spread).abs().max() <= 1e-3 * pull.abs().max() + 1e-5
    assert residual.mean(0).abs().max() < 1e-4
    assert weight.abs().max() > 1e-2


@pytest.fixture
def close_classes():
    """(train, labels, held_out) of 5 classes that overlap: features of which many are redundant,
    and of every size.
    """
    torch.manual_seed(3)
    labels = torch.arange(160) % 5
    hidden = torch.randn(160, 12) + 0.7 * torch.randn(5, 12)[labels]
    train = hidden @ torch.randn(12, 40) * torch.logspace(-3, 3, 40)
    return train, labels, torch.arange(160) % 4 == 0


def test_the_fit_is_the_minimum(close_classes):
    """The gradient of what is minimised vanishes, whatever the decay."""
    train, labels, held_out = close_classes
    weight, bias, decay = fit_linear_head(train, labels, held_out, 5)
    mean, spread = train.double().mean(0), train.double().std(0, correction=0)
    w, b = (weight * spread).requires_grad_(), (bias + weight @ mean).detach().requires_grad_()
    logits = ((train.double() - mean) / spread) @ w.t() + b
    (F.cross_entropy(logits, labels) + decay / 2 * w.square().sum()).backward()
    assert max(w.grad.norm(), b.grad.norm()) < 1e-7


@pytest.mark.parametrize("change", ["rows", "sizes", "threads", "float64"])
def test_rounding_threads_and_the_order_of_rows_decide_nothing(close_classes, change):
    train, labels, held_out = close_classes
    weight, bias, decay = fit_linear_head(train, labels, held_out, 5)
    order, factor = torch.arange(160), torch.ones(40)
    if change == "rows":
        order = torch.randperm(160)
    if change == "sizes":
        factor = 2.0 ** torch.randint(-4, 5, (40,))
    if change == "threads":
        torch.set_num_threads(2)  # one again after the test
    again = fit_linear_head(
        (train * factor)[order].to(torch.float64 if change == "float64" else torch.float32),
        labels[order],
        held_out[order],
        5,
    )
    torch.testing.assert_close(again[0] * factor, weight, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(again[1], bias, rtol=1e-5, atol=1e-6)
    assert again[2] == decay


def test_a_class_without_training_rows_is_never_chosen():
    train, labels = torch.randn(40, 6), torch.arange(40) % 2 * 2
    weight, bias, _ = fit_linear_head(train, labels, torch.arange(40) % 5 == 0, 4)
    assert set((train.double() @ weight.t() + bias).argmax(1).tolist()) <= {0, 2}


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_every_start_leads_to_the_optimum(decay, scale):
    """Also one at which all probabilities are 0 or 1, where Newton's step has no bounds."""
    rows, labels = blobs(120, 8, 6, 4.0)
    x = (rows - rows.mean(0)).double() / rows.double().std(0, correction=0)
    weight, bias = linear._fit(x, labels, 6, decay)
    start = scale * torch.randn(6, 8, dtype=torch.float64), scale * torch.randn(6).double()
    again = linear._fit(x, labels, 6, decay, start)
    torch.testing.assert_close(again, (weight, bias), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", DECAYS)
def test_it_agrees_with_scikit_learn(decay):
    rows, labels = blobs(150, 10, 5, 9.0)
    x = (rows - rows.mean(0)).double() / rows.double().std(0, correction=0)
    weight, bias = linear._fit(x, labels, 5, decay)
    theirs = LogisticRegression(C=1 / (decay * len(x)), tol=1e-10, max_iter=10_000).fit(x, labels)
    torch.testing.assert_close(weight, torch.from_numpy(theirs.coef_), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(bias, torch.from_numpy(theirs.intercept_), rtol=1e-3, atol=1e-4)


def test_features_that_are_no_numbers_are_refused():
    train, labels = blobs(20, 3, 2, 1.0)
    train[3, 1] = float("nan")
    with pytest.raises(UserError, match="no numbers"):
        fit_linear_head(train, labels, held_out(20), 2)
