"""One linear classifier on frozen features."""

import torch
import torch.nn.functional as F
from torch import Tensor

DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)


def linear_accuracy(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, held_out: Tensor
) -> tuple[float, float]:
    """Test accuracy of multinomial logistic regression on standardised features, and the weight decay it was fitted
    with.

    The decay is chosen among DECAYS on the training rows where `held_out` (N,) bool is true, never on the test rows;
    then all training rows are fitted. train (N, D), test (S, D), labels int64.
    """
    mean, spread = train.mean(0), train.std(0, correction=0)
    spread = torch.where(spread > 1e-6 * mean.abs(), spread, 1.0)  # a feature that is constant but for rounding
    train, test = (train - mean) / spread, (test - mean) / spread
    if train.shape[1] > len(train):  # the weights lie in the span of the training rows: fewer numbers, the same optimum
        basis = torch.linalg.qr(train.t()).Q
        train, test = train @ basis, test @ basis
    classes = int(torch.cat([train_labels, test_labels]).max()) + 1

    def accuracy(decay: float, fit: Tensor, fit_labels: Tensor, score: Tensor, score_labels: Tensor) -> float:
        weight, bias = _fit(fit, fit_labels, classes, decay)
        return ((score @ weight.t() + bias).argmax(1) == score_labels).float().mean().item()

    rest = ~held_out
    decay = max(
        DECAYS,
        key=lambda d: accuracy(d, train[rest], train_labels[rest], train[held_out], train_labels[held_out]),
    )
    return accuracy(decay, train, train_labels, test, test_labels), decay


def _fit(x: Tensor, labels: Tensor, classes: int, decay: float) -> tuple[Tensor, Tensor]:
    """Weights (classes, D) and bias of the minimum of the mean cross-entropy + decay / 2 · ‖weights‖²."""
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight.t() + bias, labels) + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return weight.detach(), bias.detach()
