"""Fine-tuning on all labels, and transfer to another data set or skeleton."""

from dataclasses import replace

import numpy as np

from slim_fast.evaluation.knn import compute_knn_accuracy
from slim_fast.evaluation.linear import compute_linear_accuracy
from slim_fast.evaluation.metrics import Scores, score_predictions
from slim_fast.evaluation.protocols.linear import REGRESSION
from slim_fast.evaluation.protocols.task import SOURCES, Figures, Settings, Task
from slim_fast.evaluation.tuning.classifier import TunedClassifier
from slim_fast.evaluation.tuning.recipe import TuningRecipe, default_iterations
from slim_fast.evaluation.tuning.train import tune

LEAST_ITERATIONS = 300
ROW = "fine-tuned on all labels"


def evaluate_finetuning(task: Task, settings: Settings) -> tuple[Figures, TunedClassifier]:
    """Accuracy after tuning the whole encoder on all training labels, beside the same network from
    scratch with the same budget, and logistic regression on coordinates.

    Returns: the figures, and the learned encoder's classifier of the first seed.
    """
    figures, recipe, kept = Figures(), settings.recipe, None
    clips = len(task.train)
    iterations = settings.iterations or default_iterations(clips, recipe.batch, LEAST_ITERATIONS)
    for seed in settings.seeds:
        for source in ("learned", "from_scratch"):
            model, scores = tune_and_score(task, source, task.train, recipe, iterations, seed)
            figures.add_scores(ROW, source, scores)
            kept = kept or model
    labels = task.train_labels, task.test_labels
    train, test = task.coordinates
    accuracy, _ = compute_linear_accuracy(train, labels[0], test, labels[1], task.held_out)
    figures.add(ROW, "coordinates", accuracy)
    figures.notes["iterations"] = iterations
    assert kept is not None
    return figures, kept


def evaluate_transfer(task: Task, settings: Settings) -> tuple[Figures, TunedClassifier]:
    """What an encoder of other clips is worth here: frozen (1-NN, logistic regression), then
    fine-tuned. The encoder has the cache's skeleton already.
    """
    figures, model = evaluate_finetuning(task, settings)
    frozen = [("learned", task.features("learned"))]
    frozen += [("random_encoder", task.features("random_encoder", s)) for s in settings.seeds]
    labels = task.train_labels, task.test_labels
    for source, (train, test) in frozen:
        nearest = compute_knn_accuracy(train.retrieval, labels[0], test.retrieval, labels[1])
        figures.add("1-NN", source, nearest[1])
        accuracy, _ = compute_linear_accuracy(
            train.pooled, labels[0], test.pooled, labels[1], task.held_out
        )
        figures.add(REGRESSION, source, accuracy)
    nearest = compute_knn_accuracy(task.coordinates[0], labels[0], task.coordinates[1], labels[1])
    figures.add("1-NN", "coordinates", nearest[1])
    figures.add(REGRESSION, "coordinates", figures.rows[ROW]["coordinates"][0])
    return replace(figures, rows=dict(reversed(figures.rows.items()))), model


def tune_and_score(
    task: Task, source: str, clips: np.ndarray, recipe: TuningRecipe, iterations: int, seed: int
) -> tuple[TunedClassifier, Scores]:
    """Tune a source's encoder on the labels of `clips` (n,); the classifier and its test scores."""
    model = tune(
        task.source_encoder(source, seed),
        task.cache,
        clips,
        task.classes,
        recipe if source == "learned" else recipe.from_scratch(),
        iterations,
        seed,
        task.people,
        progress=lambda steps: task.progress(steps, f"{SOURCES[source]}, {len(clips)} clips"),
    )
    predicted = model.predict(task.cache, task.test, task.people)
    return model, score_predictions(predicted, task.test_labels, task.classes)
