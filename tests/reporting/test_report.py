"""The page holds what was measured: oracles of its content."""

import json
import re
from base64 import b64decode

import numpy as np
import pytest
import torch

from slim_fast import SLiMEncoder, evaluate, report
from slim_fast.drawing.poses import project
from slim_fast.evaluation.attention import attend_from_cls
from slim_fast.evaluation.features import extract_features, load_evaluation_clips
from slim_fast.reporting.accuracies import make_accuracy_table
from slim_fast.reporting.compose import SECTIONS
from slim_fast.reporting.films import Films
from slim_fast.reporting.run_files import RunFiles
from slim_fast.reporting.scenes import film_attention, film_views, measure_attention
from slim_fast.views.pipeline import ViewSampler
from slim_fast.views.store import FrameStore
from tests.reporting.conftest import ARM, CLASSES, films_of, rows_of


@pytest.fixture(scope="module")
def page(page_path):
    return page_path.read_text("utf-8")


@pytest.fixture(scope="module")
def similarity(run, cache):
    """Test clips, training clips, and their cosines (Q, G)."""
    encoder = SLiMEncoder.from_pretrained(run)
    train, test = cache.split()
    features = [
        extract_features(encoder, cache, clips).retrieval.double() for clips in (test, train)
    ]
    unit = [torch.nn.functional.normalize(x, dim=-1) for x in features]
    return test, train, (unit[0] @ unit[1].t()).numpy()


def test_all_parts_are_there_and_listed(page):
    for name, (heading, _) in SECTIONS.items():
        assert f'<section id="{name}"><h2>{heading}</h2>' in page
        assert f'<a href="#{name}">{heading}</a>' in page


def test_every_wrong_clip_is_listed_with_its_distances(page, similarity, cache):
    test, train, cosines = similarity
    expected = {}
    for query, clip in enumerate(test):
        nearest = train[cosines[query].argmax()]
        if cache.label[nearest] != cache.label[clip]:
            own = cosines[query][cache.label[train] == cache.label[clip]].max()
            numbers = [1 - cosines[query].max(), 1 - own, cosines[query].max() - own]
            label = cache.label[clip], cache.label[nearest]
            words = [CLASSES[label[0]], CLASSES[label[1]], cache.names[nearest]]
            expected[cache.names[clip]] = words + numbers
    assert 0 < len(expected) < len(test)
    listed = {row[0]: row[1:] for row in rows_of(page, "errors")[1:]}
    assert listed.keys() == expected.keys()
    for name, row in listed.items():
        assert row[:3] == expected[name][:3]
        assert [*map(float, row[3:])] == pytest.approx(expected[name][3:], abs=6e-4)
    assert f"{len(test) - len(expected)} of {len(test)} test clips are right" in page


def test_accuracies_are_those_that_evaluate_found(run, cache_path, tmp_path, write_page, capsys):
    command = [str(run), "--data", str(cache_path), "--out", str(tmp_path / "found")]
    for protocol in ("knn", "linear"):
        quick = ["--seeds", "2", "--iterations", "3", "--json"]
        assert evaluate.main([protocol, *command, *quick]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])["linear"]
    page = write_page("--data", cache_path, "--results", tmp_path / "found")
    rows = {}
    for name, *cells in rows_of(page, "accuracy"):
        rows.setdefault(name, cells)  # before those at the end of the run
    assert rows["per cent"] == ["learned", "random encoder", "coordinates"]
    for name, by_source in figures.items():
        for place, source in enumerate(("learned", "random_encoder", "coordinates")):
            if source in by_source:
                found = by_source[source]
                many = f" ± {100 * found['std']:.1f}" if len(found["values"]) > 1 else ""
                assert rows[name][place] == f"{100 * found['mean']:.1f}{many}"
    assert "10-NN" in rows
    right = re.search(r"(\d+) of (\d+) test clips are right", page)
    assert rows["1-NN"][0] == f"{100 * int(right[1]) / int(right[2]):.1f}"
    # of other weights
    record = next((tmp_path / "found").glob("*/linear.json"))
    record.write_text(record.read_text().replace('"encoder": "', '"encoder": "0'))
    (record.parent / "semi.json").write_text("{damaged")
    page = write_page("--data", cache_path, "--results", tmp_path / "found")
    assert "linear, best on the test clips" not in page
    assert "Left out: 2 results in" in page


def test_without_results_knn_is_evaluated_for_the_page(page):
    rows = rows_of(page, "accuracy")
    assert ["k nearest neighbours"] in rows
    assert ["at the end of the run"] in rows
    first, at_the_end = (row for row in rows if row[0] == "1-NN")
    assert first[1] == at_the_end[1]


def test_nothing_is_loaded_from_elsewhere_and_names_are_escaped(page):
    without_library = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!#)\S*//", without_library)
    assert "default-src 'none'" in page
    assert "<script>alert" not in page
    assert "<b>bold" not in without_library
    assert "<i>0" not in without_library


def test_settings_and_curves_are_the_runs(page, run):
    rows = rows_of(page, "run")
    assert ["model.encoder.width", "16"] in rows
    assert ["optim.learning_rate", "0.008"] in rows
    for key in ("loss", "contrastive", "learning-rate", "knn-top1"):
        assert f'id="curve-{key}"' in page


def test_films_are_the_clips_few_frames_of_them(page, cache):
    films = films_of(page)
    points = np.frombuffer(b64decode(films["points"]), "<u2")
    assert films["bones"] == [list(bone) for bone in ARM.bones]
    shown = json.loads(
        re.search(r"<tr tabindex=\"0\" data-shown='(.*?)'", page)[1]
    )  # the first error: a clip and its nearest
    clip = int(np.flatnonzero(cache.names == rows_of(page, "errors")[1][0])[0])
    assert str(cache.names[clip]) in shown[1]
    start, frames, people, _, times = films["films"][shown[0]]
    assert (frames, people, times) == (min(24, cache.length[clip]), cache.people[clip], 0)
    film = points[start : start + frames * people * 10].reshape(frames, people, 5, 2)
    positions = cache.clip(clip).transpose(0, 3, 1, 2)
    when = np.linspace(0, len(positions) - 1, frames).round().astype(int)
    drawn = project(positions[when], ARM, "xyz")
    size = np.ptp(drawn.reshape(-1, 2), axis=0).max()
    drawn = (drawn - drawn.reshape(-1, 2).min(0)) / size * [1, -1]
    film = (film - film.reshape(-1, 2).min(0).astype(float)) / 65534
    offset = film - drawn
    assert np.ptp(offset.reshape(-1, 2), axis=0).max() < 1e-4


def test_undetected_joints_and_marks():
    films = Films(ARM, "xyz")
    poses = np.random.default_rng(0).normal(size=(6, 2, 5, 3))
    poses[3, 1, 2] = 0
    marks = np.arange(30).reshape(3, 2, 5)
    films.add(poses[:, :1])
    number = films.add(poses, marks)
    about = films.to_dict()
    start, frames, people, first, times = about["films"][number]
    assert (frames, people, first, times) == (6, 2, 0, 3)
    points = np.frombuffer(b64decode(about["points"]), "<u2")[start:].reshape(6, 2, 5, 2)
    absent = (points == 0).all(-1)
    assert absent.sum() == 1
    assert absent[3, 1, 2]
    assert points[~absent].min() >= 1
    assert (np.frombuffer(b64decode(about["marks"]), "u1") == marks.ravel()).all()


def test_attention_is_that_of_the_people_who_are_there(run, cache):
    encoder, clips = SLiMEncoder.from_pretrained(run), np.arange(8)
    assert set(cache.people[clips]) == {1, 2}
    first, mean = measure_attention(encoder, cache, clips, people=2)
    views = load_evaluation_clips(cache, clips, encoder.config.window, 2)
    people = [view for clip in views for view in clip if view.any()]
    assert len(people) == cache.people[clips].sum()
    expected = torch.stack([attend_from_cls(encoder, view[None])[0] for view in people])
    np.testing.assert_allclose(mean, expected.mean(0).numpy(), atol=1e-6)
    np.testing.assert_allclose(first[0], expected[0].numpy(), atol=1e-6)
    films = Films(ARM, "xyz")
    film_attention(cache, 4, first[4], films, encoder.config.window, 2)
    marks = np.frombuffer(b64decode(films.to_dict()["marks"]), "u1").reshape(len(mean), 2, 5)
    assert marks[:, 0].max() == 255
    assert not marks[:, 1].any()
    np.testing.assert_allclose(marks[:, 0] / 255, first[4] / first[4].max(), atol=2e-3)


def test_masks_are_those_that_training_draws(run, cache):
    config = RunFiles.read(str(run)).views
    train = cache.split()[0][:4]
    films = Films(ARM, "xyz")
    name, shots = film_views(cache, train, config, 7, films)
    batch = ViewSampler(FrameStore(cache, train), config, 7)(torch.arange(4), 0)
    chosen = [str(n) for n in cache.names[train]].index(name)
    marks = np.frombuffer(b64decode(films.to_dict()["marks"]), "u1")
    drawn = np.concatenate([group.mask[chosen].numpy().ravel() for group in batch.groups])
    assert drawn.any()
    assert (marks == drawn).all()
    assert [shot.title for shot in shots] == ["global, 16 frames"] * 2 + ["local, 8 frames"] * 2


@pytest.mark.parametrize("split", [None, "ntu60-xsub", "ntu60-xview", "mine"])
def test_the_papers_figures_are_named_as_the_papers(split):
    value = {"mean": 0.5, "std": 0.0, "values": [0.5]}
    rows = {"linear, best on the test clips": {"learned": value}, "10-NN": {"learned": value}}
    table = make_accuracy_table({"linear": {"figures": rows}}, {}, split, 40)
    paper = {"ntu60-xsub": "87.9", "ntu60-xview": "93.2"}.get(split or "")
    assert table.columns == ["learned", "published"][: 1 + (paper is not None)]
    cells = dict(table.groups["linear classifiers"])
    assert cells["linear, best on the test clips"] == ["50.0"] + [paper] * (paper is not None)
    assert cells["10-NN"] == ["50.0"] + ["–"] * (paper is not None)
    if paper:
        assert "SLiM as published" in table.notes[0]
        assert "(here 40)" in table.notes[0]


def test_weights_alone(run, cache_path, tmp_path):
    encoder = tmp_path / "encoder"
    SLiMEncoder.from_pretrained(run).save_pretrained(encoder)
    assert report.main([str(encoder), "--data", str(cache_path)]) == 0
    page = (encoder / "report.html").read_text("utf-8")
    assert "come without the settings" in page
    assert '<section id="curves">' not in page
    assert "is not known without the settings" in page
