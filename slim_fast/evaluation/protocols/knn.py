"""k-nearest neighbours and retrieval with frozen features."""

from torch import Tensor

from slim_fast.evaluation.knn import compute_knn_accuracy, predict_knn
from slim_fast.evaluation.metrics import score_predictions
from slim_fast.evaluation.parts import whiten
from slim_fast.evaluation.probe import NEIGHBOURS
from slim_fast.evaluation.protocols.task import Figures, Settings, Task
from slim_fast.evaluation.retrieval import compute_retrieval

RANKS = (5, 10)  # recall@1 is the accuracy of one neighbour


def evaluate_knn(task: Task, settings: Settings) -> Figures:
    """k-NN accuracy (1-NN is the paper's retrieval), mean average precision and recall@k.

    Of the learned features, of a random encoder for each seed, and of coordinates. With
    settings.parts also the 1-NN accuracy of body parts over time, which are whitened, and of
    whitened coordinates.
    """
    figures = Figures()
    train, test = task.features("learned")
    _add(figures, task, "learned", train.retrieval, test.retrieval)
    for seed in settings.seeds:
        train, test = task.features("random_encoder", seed)
        _add(figures, task, "random_encoder", train.retrieval, test.retrieval)
    _add(figures, task, "coordinates", *task.coordinates)
    if settings.parts:
        _add_parts(figures, task, "learned", *task.parts("learned"))
        for seed in settings.seeds:
            _add_parts(figures, task, "random_encoder", *task.parts("random_encoder", seed))
        _add_parts(figures, task, "coordinates", *task.coordinates)
    return figures


def _add_parts(figures: Figures, task: Task, source: str, train: Tensor, test: Tensor) -> None:
    train, test = whiten(train, test)
    accuracy = compute_knn_accuracy(train, task.train_labels, test, task.test_labels)
    figures.add("1-NN, body parts over time, whitened", source, accuracy[1])


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
