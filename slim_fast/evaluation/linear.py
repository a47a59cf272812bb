"""Multinomial logistic regression on frozen features, solved to convergence in float64.

At the optimum the result depends neither on the number of threads nor on the order of rows.
"""

import warnings
from math import inf, log

import torch
import torch.nn.functional as F
from torch import Tensor

from slim_fast.errors import UserError

DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)
MAX_NEWTON_STEPS, MAX_CG_STEPS = 100, 1000
# Bias of a class without training rows, which never wins: the weights and the biases of the others
# sum to zero, so that their largest logit is never negative.
ABSENT_BIAS = -20.0
_TIE = 1e-6  # logits that differ by less are equal
_ROUNDING = 1e-14  # of the objective


def compute_linear_accuracy(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, held_out: Tensor
) -> tuple[float, float]:
    """Test accuracy of `fit_linear_head`, and its weight decay. test (S, D), labels int64 (S,)."""
    classes = int(torch.cat([train_labels, test_labels]).max()) + 1
    weight, bias, decay = fit_linear_head(train, train_labels, held_out, classes)
    return _count_correct(test.double() @ weight.t() + bias, test_labels) / len(test), decay


def fit_linear_head(
    train: Tensor, labels: Tensor, held_out: Tensor, classes: int
) -> tuple[Tensor, Tensor, float]:
    """Fit multinomial logistic regression to standardised features.

    The weight decay of DECAYS is chosen on the rows where `held_out` (N,) bool is true, the
    smallest of equally accurate ones; then all rows are fitted. train (N, D), labels int64 (N,).

    Returns: weight (classes, D) and bias (classes,), float64, for features that are not
    standardised, and the weight decay.
    Raises: UserError when a feature is infinite or no number.
    """
    if not train.isfinite().all():
        raise UserError("Features are infinite or no numbers: the encoder's weights are damaged.")
    train = train.double()
    mean, std = train.mean(0), train.std(0, correction=0)
    # a feature that is constant but for rounding must not be scaled up to noise
    std = torch.where(std > 1e-6 * mean.abs(), std, 1.0)
    x = (train - mean) / std
    basis = torch.eye(x.shape[1], dtype=x.dtype)
    # The gradient of the cross-entropy is a sum of training rows and the decay shrinks all else, so
    # the optimal weights lie in the span of the rows: with D > N, N numbers a class find the same
    # optimum as D.
    if x.shape[1] > len(x):
        basis = torch.linalg.qr(x.t()).Q
        x = x @ basis
    # Along the principal axes the Hessian is nearly diagonal, and so well preconditioned by its
    # diagonal; an orthogonal map changes no norm, so the optimum is the same.
    principal = torch.linalg.eigh(x.t() @ x)[1]
    basis = basis @ principal
    x, rest = x @ principal, ~held_out
    correct, start = dict.fromkeys(DECAYS, 0), None
    starts: dict[float, tuple[Tensor, Tensor]] = {}
    if held_out.any() and rest.any():
        # the strongest decay converges fastest, and each fit starts from the one before
        for decay in sorted(DECAYS, reverse=True):
            weight, bias = start = starts[decay] = _fit(
                x[rest], labels[rest], classes, decay, start
            )
            correct[decay] = _count_correct(x[held_out] @ weight.t() + bias, labels[held_out])
    decay = max(sorted(DECAYS), key=correct.__getitem__)
    weight, bias = _fit(x, labels, classes, decay, starts.get(decay))
    weight = weight @ basis.t() / std
    return weight, bias - weight @ mean, decay


def _count_correct(logits: Tensor, labels: Tensor) -> int:
    """Count the rows whose label has the largest logit; the lowest class wins ties."""
    return int(((logits > logits.amax(1, keepdim=True) - _TIE).int().argmax(1) == labels).sum())


@torch.no_grad()
def _fit(
    x: Tensor,
    labels: Tensor,
    classes: int,
    decay: float,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Minimise mean cross-entropy + decay / 2 · ‖weight‖²: weight (classes, D), bias (classes,).

    Newton's method, until the norm of the gradient is 1e-8 · decay, which bounds the error of the
    weights by 1e-8, or as small as rounding allows. The sum of the biases, which the loss leaves
    open, is 0. A class without rows gets weight 0 and ABSENT_BIAS. x (N, D) float64; start: weight
    and bias to start from.
    """
    present, target = labels.unique(return_inverse=True)
    x = torch.cat([x, x.new_ones(len(x), 1)], 1)  # the last column of w is the bias
    w = x.new_zeros(len(present), x.shape[1])
    if start is not None:
        w = torch.cat([start[0][present], start[1][present, None].clamp(min=-5)], 1)
    decays = torch.full_like(w[0], decay)
    decays[-1] = 0
    one_hot, squares = F.one_hot(target).to(x), x.square()

    def objective(w: Tensor, logits: Tensor) -> float:
        return (F.cross_entropy(logits, target) + decays @ w.square().sum(0) / 2).item()

    logits = x @ w.t()
    value, previous, falls = objective(w, logits), inf, True
    if value > log(len(present)):  # a start that is worse than none: Newton's steps have no bounds
        w, logits, value = w * 0, logits * 0, log(len(present))
    for _ in range(MAX_NEWTON_STEPS):
        p = logits.softmax(1)
        gradient = (p - one_hot).t() @ x / len(x) + decays * w
        norm = gradient.norm().item()
        if norm <= 1e-8 * decay or (norm >= previous and not falls):
            break
        step = _newton_step(x, squares, p, decays, gradient)
        slope, length, before = (gradient * step).sum().item(), 1.0, value
        rounding = _ROUNDING * (1 + before)
        # Where all probabilities are 0 or 1 the Hessian is nearly singular and the step has no
        # bounds: halve it until the objective falls, which it does along a step of convex problems.
        while True:
            logits = x @ (w + length * step).t()
            value = objective(w + length * step, logits)
            if value <= before + 1e-4 * length * slope + rounding or length < 1e-30:
                break
            length /= 2
        w, previous, falls = w + length * step, norm, value < before - rounding
    else:
        warnings.warn(f"not at the optimum after {MAX_NEWTON_STEPS} Newton steps", stacklevel=3)
    w[:, -1] -= w[:, -1].mean()
    weight, bias = x.new_zeros(classes, x.shape[1] - 1), x.new_full((classes,), ABSENT_BIAS)
    weight[present], bias[present] = w[:, :-1], w[:, -1]
    return weight, bias


def _newton_step(x: Tensor, squares: Tensor, p: Tensor, decays: Tensor, gradient: Tensor) -> Tensor:
    """About -H⁻¹ gradient of the Hessian H, by conjugate gradients preconditioned by H's diagonal.

    The tolerance falls with the gradient, so that Newton's method converges superlinearly.
    """
    diagonal = (p * (1 - p)).t() @ squares / len(x) + decays + 1e-15
    step, residual = torch.zeros_like(gradient), -gradient
    tolerance = gradient.norm() * gradient.norm().sqrt().clamp(max=0.1)
    direction, previous = torch.zeros_like(gradient), 1.0
    for _ in range(MAX_CG_STEPS):
        preconditioned = residual / diagonal
        current = (residual * preconditioned).sum().item()
        if current <= 0:
            break
        direction = preconditioned + current / previous * direction
        logits = x @ direction.t()  # the change of logits along the direction
        logits = p * (logits - (p * logits).sum(1, keepdim=True))
        product = logits.t() @ x / len(x) + decays * direction  # H @ direction
        curvature = (direction * product).sum().item()
        if curvature <= 0:  # H is positive semi-definite: only rounding is left
            break
        length = current / curvature
        step, residual, previous = step + length * direction, residual - length * product, current
        if residual.norm() <= tolerance:
            break
    return step
