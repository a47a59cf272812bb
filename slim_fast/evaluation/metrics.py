"""Figures of predicted classes, from scikit-learn."""

import warnings
from dataclasses import dataclass

from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score
from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """How well classes were predicted, shares of 1.

    Attributes:
        accuracy: of all clips.
        balanced_accuracy: mean of the classes' own accuracies, over the classes that occur.
        macro_f1: mean of the classes' F1 scores, over those that occur or are predicted.
        confusion: (classes, classes) counts; rows are true classes, columns predicted ones.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    confusion: list[list[int]]


def score_predictions(predicted: Tensor, labels: Tensor, classes: int) -> Scores:
    """Scores of predicted classes int64 (N,) against labels int64 (N,), both below `classes`."""
    truth, guess = labels.cpu().numpy(), predicted.cpu().numpy()
    with warnings.catch_warnings():
        # scikit-learn warns of classes that are predicted and never occur
        warnings.simplefilter("ignore")
        balanced = float(balanced_accuracy_score(truth, guess))
    return Scores(
        accuracy=float((truth == guess).mean()),
        balanced_accuracy=balanced,
        macro_f1=float(f1_score(truth, guess, average="macro", zero_division=0)),
        confusion=confusion_matrix(truth, guess, labels=range(classes)).tolist(),
    )
