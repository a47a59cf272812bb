"""k-nearest neighbours and retrieval with frozen features."""

from torch import Tensor

from slim_fast.evaluation.knn import compute_knn_accuracy, predict_knn
from slim_fast.evaluation.metrics import score_predictions
from slim_fast.evaluation.parts import whiten
from slim_fast.evaluation.probe import NEIGHBOURS
from slim_fast.evaluation.protocols.task import PARTS, WINDOWS, Figures, Settings, Task
from slim_fast.evaluation.retrieval import compute_retrieval

RANKS = (5, 10)  # recall@1 is the accuracy of one neighbour


def evaluate_knn(task: Task, settings: Settings) -> Figures:
    """k-NN accuracy (1-NN is the paper's retrieval), mean average precision and recall@k.

    Of the learned features, of a random encoder for each seed, and of coordinates. With
    settings.parts also the 1-NN accuracy of body parts over time, which are whitened, and of
    whitened coordinates; with settings.windows that of CLS of windows.
    """
    figures = Figures()
    for source, seed in settings.encoders:
        train, test = task.features(source, seed)
        _add(figures, task, source, train.retrieval, test.retrieval)
    _add(figures, task, "coordinates", *task.coordinates)
    if settings.parts:
        row = f"1-NN, {PARTS}, whitened"
        for source, seed in settings.encoders:
            _add_nearest(figures, task, row, source, *whiten(*task.parts(source, seed)))
        _add_nearest(figures, task, row, "coordinates", *whiten(*task.coordinates))
    if settings.windows:
        for source, seed in settings.encoders:
            _add_nearest(figures, task, f"1-NN, {WINDOWS}", source, *task.windows(source, seed))
    return figures


def _add_nearest(
    figures: Figures, task: Task, row: str, source: str, train: Tensor, test: Tensor
) -> None:
    accuracy = compute_knn_accuracy(train, task.train_labels, test, task.test_labels)
    figures.add(row, source, accuracy[1])


def _add(figures: Figures, task: Task, source: str, train: Tensor, test: Tensor) -> None:
    predicted = predict_knn(train, task.train_labels, test, NEIGHBOURS)
    figures.add_scores(
        "1-NN", source, score_predictions(predicted[1], task.test_labels, task.classes)
    )
    for k, classes in predicted.items():
        if k > 1:
            accuracy = float((classes == task.test_labels).double().mean())
            figures.add(f"{k}-NN", source, accuracy)
    precision, recall = compute_retrieval(train, task.train_labels, test, task.test_labels, RANKS)
    figures.add("mAP", source, precision)
    for k, share in recall.items():
        figures.add(f"recall@{k}", source, share)
