"""One linear classifier on frozen features."""

import torch
import torch.nn.functional as F
from torch import Tensor

DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)


def linear_accuracy(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, held_out: Tensor
) -> tuple[float, float]:
    """Test accuracy of `linear_head`, and the weight decay it was fitted with. test (S, D), labels int64."""
    classes = int(torch.cat([train_labels, test_labels]).max()) + 1
    weight, bias, decay = linear_head(train, train_labels, held_out, classes)
    return ((test @ weight.t() + bias).argmax(1) == test_labels).float().mean().item(), decay


def linear_head(train: Tensor, labels: Tensor, held_out: Tensor, classes: int) -> tuple[Tensor, Tensor, float]:
    """Multinomial logistic regression on standardised features, as a map of the features as they are: weight (classes,
    D), bias (classes,), and the weight decay it was fitted with.

    The decay is chosen among DECAYS on the rows where `held_out` (N,) bool is true; then all rows are fitted. train
    (N, D), labels int64 (N,).
    """
    mean, spread = train.mean(0), train.std(0, correction=0)
    spread = torch.where(spread > 1e-6 * mean.abs(), spread, 1.0)  # a feature that is constant but for rounding
    x, basis = (train - mean) / spread, None
    if x.shape[1] > len(x):  # the weights lie in the span of the training rows: fewer numbers, the same optimum
        basis = torch.linalg.qr(x.t()).Q
        x = x @ basis
    rest = ~held_out

    def accuracy(decay: float) -> float:
        weight, bias = _fit(x[rest], labels[rest], classes, decay)
        return ((x[held_out] @ weight.t() + bias).argmax(1) == labels[held_out]).float().mean().item()

    decay = max(DECAYS, key=accuracy)
    weight, bias = _fit(x, labels, classes, decay)
    weight = (weight if basis is None else weight @ basis.t()) / spread
    return weight, bias - weight @ mean, decay


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
