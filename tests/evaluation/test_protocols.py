"""Protocols on a small cache: what is compared, and what is refused."""

import json

import numpy as np
import pytest
import torch

from slim_fast.errors import UserError
from slim_fast.evaluation.feature_files import FeatureFiles
from slim_fast.evaluation.grid.classifiers import find_best
from slim_fast.evaluation.grid.files import load_grid
from slim_fast.evaluation.metrics import score_predictions
from slim_fast.evaluation.probe import probe
from slim_fast.evaluation.protocols import (
    Figures,
    Settings,
    Task,
    evaluate_finetuning,
    evaluate_knn,
    evaluate_linear,
    evaluate_semi,
    evaluate_transfer,
    semi,
)
from slim_fast.evaluation.protocols.linear import BEST, CHOSEN, evaluate_saved_grid
from slim_fast.evaluation.protocols.results import (
    format_table,
    read_results,
    summarise,
    write_results,
)
from slim_fast.evaluation.tuning.recipe import TuningRecipe, published_semi

QUICK = Settings(seeds=(0, 1), iterations=6, recipe=TuningRecipe(batch=4))


@pytest.fixture
def cache(make_cache, crowd):
    """24 clips of 2 actions by 6 subjects, two of them in the test half; action 1 moves its
    hands.
    """
    pose, clips = crowd(1), []
    for i in range(24):
        clip = pose + 0.02 * crowd(70, seed=i)
        clip[:, [7, 11, 21, 23], 1, 0] += (i % 2) * np.sin(np.arange(70) / 4 + i)[:, None]
        clips.append(clip)
    return make_cache(
        clips,
        label=[i % 2 for i in range(24)],
        subject=[i // 4 for i in range(24)],
        split=["train" if i < 16 else "test" for i in range(24)],
    )


@pytest.fixture
def task(cache, encoder, tmp_path):
    return Task(encoder, cache, FeatureFiles(tmp_path / "features", cache))


def test_knn_is_the_probe_with_more_figures(task):
    figures = evaluate_knn(task, QUICK)
    wanted = [probe(task.cache, task.encoder, ("knn",), seed=seed)["knn"] for seed in (0, 1)]
    for row, k in (("1-NN", 1), ("10-NN", 10)):
        assert figures.rows[row]["learned"] == [wanted[0]["learned"][k]]
        assert figures.rows[row]["random_encoder"] == [w["random_encoder"][k] for w in wanted]
        assert figures.rows[row]["coordinates"] == [wanted[0]["coordinates"][k]]
    assert set(figures.rows) >= {"mAP", "recall@5", "1-NN, balanced accuracy", "1-NN, macro F1"}
    assert np.sum(figures.confusion["1-NN"]) == 8


def test_linear_chooses_on_held_out_clips_and_tells_the_best_on_the_test_clips(task, tmp_path):
    settings = Settings(seeds=(0, 1), iterations=40)
    figures = evaluate_linear(task, settings, tmp_path / "linear.pth")
    for source in ("learned", "random_encoder"):
        chosen, best = figures.rows[CHOSEN][source], figures.rows[BEST][source]
        assert len(chosen) == len(best) == 2
        assert all(c <= b for c, b in zip(chosen, best, strict=True))
    assert figures.rows["logistic regression"]["coordinates"]
    # what was written is the first seed's grid, of all training clips
    grid, iterations, _ = load_grid(tmp_path / "linear.pth", 16, 2)
    assert iterations == 40
    predicted = grid.predict(task.features("learned")[1])
    best = (predicted[find_best(predicted, task.test_labels)] == task.test_labels).double().mean()
    assert figures.rows[BEST]["learned"][0] == best
    again = evaluate_saved_grid(task, tmp_path / "linear.pth")
    assert again.rows[BEST]["learned"] == [best]
    assert again.notes["iteration"] == 40


def test_linear_as_published_trains_on_clips_turned_anew(task):
    figures = evaluate_linear(task, Settings(iterations=3, published=True))
    plain = evaluate_linear(task, Settings(iterations=3))
    assert figures.rows.keys() == plain.rows.keys()


def test_the_test_clips_do_not_choose(task):
    """With the labels of the test clips shuffled the same classifier is chosen."""
    first = evaluate_linear(task, Settings(iterations=30), task.files.folder / "a.pth")
    task.test_labels = 1 - task.test_labels
    other = evaluate_linear(task, Settings(iterations=30), task.files.folder / "b.pth")
    assert first.notes["chosen"] == other.notes["chosen"]
    assert other.rows[CHOSEN]["learned"][0] == pytest.approx(1 - first.rows[CHOSEN]["learned"][0])


def test_semi_compares_tuned_and_frozen(task):
    figures = evaluate_semi(task, Settings(**vars(QUICK) | {"fractions": (0.25,)}))
    rows = {f"25 % of the labels, {d}, {k}" for d in ("balanced", "random") for k in KINDS}
    assert figures.rows.keys() == rows
    tuned, frozen = (figures.rows[f"25 % of the labels, balanced, {k}"] for k in KINDS)
    assert tuned.keys() == {"learned", "from_scratch"}
    assert frozen.keys() == {"learned", "random_encoder", "coordinates"}
    assert all(len(values) == 2 for values in (*tuned.values(), *frozen.values()))
    assert figures.notes["25 % of the labels, balanced"] == "4 clips"


KINDS = ("tuned", "frozen")


def test_semi_as_published_has_a_recipe_of_its_own(task, monkeypatch):
    recipes = []

    def note(task, source, clips, recipe, iterations, seed):
        recipes.append((source, recipe, iterations))
        return None, score_predictions(task.test_labels, task.test_labels, 2)

    monkeypatch.setattr(semi, "tune_and_score", note)
    published = {"published": True, "semi_recipe": published_semi(), "fractions": (0.25,)}
    evaluate_semi(task, Settings(**published))
    assert len(recipes) == 4
    assert all(r == (r[0], published_semi(), 20_000) for r in recipes)
    recipes.clear()
    evaluate_semi(task, Settings(fractions=(0.25,)))
    assert all(r == (r[0], TuningRecipe(), 80) for r in recipes)


def test_semi_leaves_out_draws_that_cannot_hold_every_class(task):
    settings = vars(QUICK) | {"fractions": (0.05,), "seeds": (0,)}
    with pytest.warns(UserWarning, match=r"5.0% of 16 .* are 1, and cannot hold 2 .*: left out"):
        figures = evaluate_semi(task, Settings(**settings))
    assert all("balanced" in row for row in figures.rows)
    with pytest.raises(UserError, match=r"cannot hold 2 classes: give a larger share"):
        evaluate_semi(task, Settings(**settings | {"draws": "random"}))


def test_semi_warns_of_classes_that_a_draw_left_empty(task):
    task.train_labels = torch.tensor([0] * 15 + [1])
    settings = Settings(**vars(QUICK) | {"fractions": (0.125,), "draws": "random", "seeds": (0,)})
    with pytest.warns(UserWarning, match="1 of 2 classes have no clip for some seed"):
        evaluate_semi(task, settings)


def test_finetuning_and_transfer(task):
    figures, model = evaluate_finetuning(task, QUICK)
    tuned = figures.rows["fine-tuned on all labels"]
    assert [len(tuned[s]) for s in ("learned", "from_scratch", "coordinates")] == [2, 2, 1]
    predicted = model.predict(task.cache, task.test)
    assert tuned["learned"][0] == (predicted == task.test_labels).double().mean()
    figures, _ = evaluate_transfer(task, QUICK)
    assert figures.rows.keys() >= {"1-NN", "logistic regression", "fine-tuned on all labels"}
    wanted = probe(task.cache, task.encoder)
    assert figures.rows["1-NN"]["learned"] == [wanted["knn"]["learned"][1]]
    assert figures.rows["logistic regression"]["learned"] == [wanted["linear"]["learned"]]


def test_grids_of_other_data_are_refused(task, make_cache, crowd, tmp_path):
    evaluate_linear(task, Settings(iterations=2), tmp_path / "linear.pth")
    other = make_cache([crowd(9, seed=i) for i in range(4)], label=[0, 1, 2, 2], split=SIDES)
    with pytest.warns(UserWarning, match="that no training clip is of"):
        more = Task(task.encoder, other, FeatureFiles(None, other))
    with pytest.raises(UserError, match=r"classifiers of 2 classes, and .* has 3"):
        evaluate_saved_grid(more, tmp_path / "linear.pth")


SIDES = ["train", "train", "test", "test"]


def test_too_few_clips_to_hold_some_out(make_cache, crowd, encoder):
    cache = make_cache([crowd(9, seed=i) for i in range(2)], label=[0, 0], split=["train", "test"])
    task = Task(encoder, cache, FeatureFiles(None, cache))
    with pytest.raises(UserError, match="too few to hold some out"):
        evaluate_linear(task, Settings(iterations=1))


@pytest.mark.parametrize("wrong", [{"seeds": ()}, {"iterations": 0}])
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(UserError, match="at least one"):
        Settings(**wrong)


def test_the_table_and_the_record(tmp_path):
    figures = Figures()
    for value in (0.5, 0.7):
        figures.add("1-NN", "learned", value)
    figures.add("1-NN", "coordinates", 0.25)
    figures.add("mAP", "coordinates", 1.0)
    assert summarise(figures)["1-NN"]["learned"] == {
        "mean": pytest.approx(0.6),
        "std": pytest.approx(0.2 / 2**0.5),
        "values": [0.5, 0.7],
    }
    assert [line.split() for line in format_table({"knn": figures}).splitlines()] == [
        ["learned", "coordinates"],
        ["1-NN", "60.0", "±", "14.1", "25.0"],
        ["mAP", "–", "100.0"],
    ]
    write_results(tmp_path / "new" / "knn.json", figures, {"run": "r"})
    record = json.loads((tmp_path / "new" / "knn.json").read_text())
    assert record["figures"] == json.loads(json.dumps(summarise(figures)))
    assert record["run"] == "r"


@pytest.mark.parametrize(
    "change",
    [
        {"figures": {"a": {"learned": {"mean": "much", "std": 0, "values": []}}}},
        {"figures": {"a": {"learned": {"mean": 0.5, "std": "0.1", "values": [0.4, 0.6]}}}},
        {"settings": "x"},
    ],
)
def test_records_of_other_content_are_empty(tmp_path, change):
    record = {"settings": {"people": 2}, "figures": {}, "encoder": "e"}
    (tmp_path / "knn").mkdir()
    path = tmp_path / "knn" / "results.json"
    for content, found in ((record, record), ({**record, **change}, {})):
        path.write_text(json.dumps(content))
        assert read_results(tmp_path) == [found]
    path.write_text("[" * 3000)
    assert read_results(tmp_path) == [{}]
