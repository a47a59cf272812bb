"""From a run and a cache to the content of the report's page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from slim_fast import __version__
from slim_fast.data.cache import ClipCache
from slim_fast.drawing.embedding import project_features
from slim_fast.evaluation.feature_files import hash_encoder
from slim_fast.evaluation.metrics import score_predictions
from slim_fast.evaluation.protocols import Settings, evaluate_knn
from slim_fast.evaluation.protocols.results import read_results, summarise
from slim_fast.evaluation.protocols.task import Progress
from slim_fast.model.encoder import Encoder
from slim_fast.reporting.accuracies import AccuracyTable, make_accuracy_table, select_results
from slim_fast.reporting.page import write_page
from slim_fast.reporting.plots import (
    load_library,
    plot_attention,
    plot_class_accuracies,
    plot_confusion,
    plot_curves,
    plot_embedding,
)
from slim_fast.reporting.scenes import (
    ATTENTION_FILMS,
    Shot,
    choose_evenly,
    film_attention,
    film_views,
    make_gallery,
    measure_attention,
)
from slim_fast.reporting.subject import ReportSettings, Subject
from slim_fast.training.clips import select_training_clips

# section -> its heading, and what of the content must be there
SECTIONS = {
    "accuracy": ("Accuracy", "table"),
    "run": ("The run", "table"),
    "curves": ("Training curves", "curves"),
    "embedding": ("Embedding", "embedding"),
    "confusion": ("Confusion", "confusion"),
    "classes": ("Accuracy by class", "confusion"),
    "gallery": ("Nearest neighbours", "gallery"),
    "attention": ("Attention", "attention"),
    "views": ("Views and masks", "table"),
    "errors": ("Errors", "confusion"),
}


def write_report(
    path: Path,
    run: str,
    encoder: Encoder,
    cache: ClipCache,
    settings: ReportSettings,
    progress: Progress = lambda steps, _: steps,
) -> None:
    """Write the report of a run's encoder on a cache as one HTML file.

    run: where the encoder is from; a run's folder has settings and curves too.
    Raises: UserError when the encoder does not fit the cache, there are too few clips, the split is
    not there, a library is missing, or the file cannot be written.
    """
    load_library()
    write_page(path, make_content(Subject(run, encoder, cache, settings, progress)))


def make_content(subject: Subject) -> dict[str, Any]:
    """All that page.html names."""
    found, cache, files = subject.found, subject.cache, subject.files
    queries, gallery = ("test clips", "training clips") if cache.splits else ("clips",) * 2
    content = {
        "title": f"{Path(subject.run).name} on {cache.path.resolve().name}",
        "summary": _summarise(subject),
        "notes": [*_notes(subject)],
        "table": _tabulate(subject),
        "unlabelled": subject.unlabelled,
        "facts": files.facts(),
        "settings": files.settings(),
        "curves": plot_curves(files.metrics, files.prototypes),
        "queries": len(found.queries),
        "query_kind": queries,
        "gallery_size": len(found.gallery),
        "gallery_kind": gallery,
        "gallery": make_gallery(found, subject.film, subject.class_of, cache.label),
        **_embed(subject),
        **_classify(subject),
        **_attend(subject),
        **_draw_views(subject),
        "version": __version__,
    }
    content["films"] = subject.films.to_dict()
    content["contents"] = [
        (name, heading) for name, (heading, needed) in SECTIONS.items() if content[needed]
    ]
    return content


def _summarise(subject: Subject) -> str:
    cache, size = subject.cache, sum(p.numel() for p in subject.encoder.parameters())
    split = f", split {subject.split}" if subject.split else ""
    return (
        f"An encoder of {size:,} parameters, looked at on {len(cache):,} clips of "
        f"{cache.path.resolve().name} ({cache.topology.name}, {cache.topology.num_joints} joints, "
        f"{cache.channels}{split})."
    )


def _notes(subject: Subject) -> Iterator[str]:
    yield from subject.settings.notes
    trained_on = subject.files.summary.get("data") or subject.files.config.get("data")
    here = subject.cache.path
    if trained_on not in (None, "synthetic") and Path(trained_on).resolve() != here.resolve():
        yield f"The run was trained on {trained_on}; this page is about {here}."


def _tabulate(subject: Subject) -> AccuracyTable:
    """What was evaluated; k-NN is, where it was not."""
    if subject.task is None:
        return AccuracyTable()
    folder, settings = subject.settings.results, Settings((subject.settings.seed,))
    keys = hash_encoder(subject.encoder), subject.features.cache_hash, subject.split
    people = subject.settings.people
    fitting, others = select_results(read_results(folder), *keys, people)
    if "knn" not in fitting:
        fitting = {"knn": {"figures": summarise(evaluate_knn(subject.task, settings))}, **fitting}
    tested = len(subject.found.queries)
    table = make_accuracy_table(fitting, subject.files.summary, subject.split, tested)
    if others:
        what = f"{others} results in {folder} of other weights, clips, splits or people"
        table.notes.append(f"Left out: {what}.")
    return table


def _embed(subject: Subject) -> dict[str, Any]:
    """The features in the plane."""
    found, shown = subject.found, subject.shown
    labels = subject.cache.label[found.queries[shown]]
    if len(shown) < 3:
        return {"embedding": None}
    points, name = project_features(found.features[shown].double().numpy(), "auto")
    classes = {int(label): subject.class_name(int(label)) for label in np.unique(labels)}
    details = [subject.film_pair(int(query)) for query in shown]
    plot = plot_embedding(points, labels, classes, details)
    return {"embedding": plot, "projection": name, "shown": len(shown), "legend": len(classes) > 1}


def _classify(subject: Subject) -> dict[str, Any]:
    """Confusion, accuracies of classes, and the clips that are wrong, by 1-NN."""
    task, found, most = subject.task, subject.found, subject.settings.clips
    if task is None or found.right is None:
        return {"confusion": None}
    predicted = task.train_labels[found.rows[:, 0]]
    confusion = score_predictions(predicted, task.test_labels, task.classes).confusion
    names = [subject.class_name(label) for label in range(task.classes)]
    wrong = np.flatnonzero(~found.right)
    return {
        "confusion": plot_confusion(confusion, names),
        "classes": plot_class_accuracies(confusion, names),
        "right": int(found.right.sum()),
        "errors": [_describe_error(subject, int(q), n < most) for n, q in enumerate(wrong)],
        "unplayed": max(0, len(wrong) - most),
    }


def _describe_error(subject: Subject, query: int, plays: bool) -> dict[str, Any]:
    found, names = subject.found, subject.cache.names
    clip, nearest = int(found.queries[query]), found.nearest(query)
    distance, own = found.distances[query, 0], found.own_distance[query]
    numbers = [f"{x:.3f}" if np.isfinite(x) else "–" for x in (distance, own, own - distance)]
    cells = [names[clip], subject.class_of(clip), subject.class_of(nearest), names[nearest]]
    return {"cells": cells + numbers, "shown": subject.film_pair(query) if plays else None}


def _attend(subject: Subject) -> dict[str, Any]:
    """Where CLS looks."""
    cache, people = subject.cache, subject.settings.people
    clips = subject.found.queries[subject.shown]
    shares, mean = measure_attention(subject.encoder, cache, clips, people)
    rows = choose_evenly(np.argsort(cache.label[clips], kind="stable"), ATTENTION_FILMS)
    sizes = subject.films, subject.encoder.config.window, people
    films = [film_attention(cache, int(clips[row]), shares[row], *sizes) for row in rows]
    names = [subject.class_of(int(clips[row])) for row in rows]
    return {
        "attention": plot_attention(mean, cache.topology.joints),
        "attention_films": [Shot(film, name) for film, name in zip(films, names, strict=True)],
        "attention_clips": len(clips),
        "patch_share": float(mean.sum()),
        "even_share": 1 / (1 + subject.encoder.config.registers + mean.size),
    }


def _draw_views(subject: Subject) -> dict[str, Any]:
    """What a step of training sees of a clip."""
    cache, config = subject.cache, subject.files.views
    if config is None:
        why = "Which views training draws is not known without the settings of a SLiM run."
        return {"views": [], "no_views": why}
    clips = select_training_clips(cache, subject.split)
    clips = np.arange(len(cache)) if clips is None or not len(clips) else clips
    seed = int(subject.files.config.get("seed", 0))
    name, shots = film_views(cache, clips, config, seed, subject.films)
    return {"views": shots, "views_clip": name}
