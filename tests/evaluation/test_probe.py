"""Which clips are compared, with what, and what is said when they cannot be."""

import numpy as np
import pytest
import torch

from slim_fast.errors import UserError
from slim_fast.evaluation.features import extract_features
from slim_fast.evaluation.knn import compute_knn_accuracy
from slim_fast.evaluation.probe import (
    NEIGHBOURS,
    check_encoder_fits,
    compute_online_knn,
    make_random_encoder,
    probe,
    select_held_out,
    select_labelled_clips,
)
from slim_fast.model.encoder import Encoder, EncoderConfig


@pytest.fixture
def cache(make_cache, crowd):
    """24 clips of 2 actions by 6 subjects, two of them in the test half. Action 1 moves its hands
    up and down.
    """
    actions = [0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1]
    pose, clips, labels, subjects = crowd(1), [], [], []
    for i in range(24):
        clip = pose + 0.02 * crowd(80, seed=i)
        if actions[i]:
            clip[:, [7, 11, 21, 23], 1, 0] += np.sin(np.arange(80) / 4 + i)[:, None]
        clips.append(clip), labels.append(actions[i]), subjects.append(i // 4)
    return make_cache(
        clips,
        label=labels,
        subject=subjects,
        split=["train" if s < 4 else "test" for s in subjects],
    )


def test_unlabelled_and_unsplit_clips_are_left_out(make_cache, crowd):
    sides = ["train", "test", "neither", "train", "test", "train"]
    cache = make_cache(
        [crowd(5, seed=i) for i in range(6)], label=[0, 1, 0, -1, -1, 2], split=sides
    )
    train, test = select_labelled_clips(cache)
    assert train.tolist() == [0, 5]
    assert test.tolist() == [1]
    assert [side.tolist() for side in select_labelled_clips(cache, "cs")] == [[0, 5], [1]]


def test_a_limit_thins_out_evenly(make_cache, crowd):
    cache = make_cache(
        [crowd(2, seed=i) for i in range(20)], label=[0] * 20, split=["train"] * 17 + ["test"] * 3
    )
    train, test = select_labelled_clips(cache, limit=5)
    assert train.tolist() == [0, 4, 8, 12, 16]
    assert test.tolist() == [17, 18, 19]
    assert select_labelled_clips(cache, limit=1)[0].tolist() == [0]


def test_sides_without_labels_and_unknown_splits_are_named(make_cache, crowd):
    clips = [crowd(2, seed=i) for i in range(2)]
    with pytest.raises(UserError, match="no labelled test clips"):
        select_labelled_clips(make_cache(clips, label=[0, -1], split=["train", "test"]))
    with pytest.raises(UserError, match="no labelled training clips"):
        select_labelled_clips(make_cache(clips, label=[-1, 0], split=["train", "test"]))
    with pytest.raises(UserError, match="no split 'xview'"):
        select_labelled_clips(make_cache(clips, label=[0, 0], split=["train", "test"]), "xview")
    with pytest.raises(UserError, match="no train/test split"):
        select_labelled_clips(make_cache(clips, label=[0, 0]))


@pytest.mark.parametrize("subjects", [2, 3, 4, 5, 8, 20, 40])
def test_held_out_rows_keep_subjects_apart(subjects, make_cache, crowd):
    each = [i % subjects for i in range(3 * subjects)]
    cache = make_cache(
        [crowd(1, seed=i) for i in range(len(each))], label=[0] * len(each), subject=each
    )
    train = np.arange(len(each))
    rows = select_held_out(cache, train).numpy()
    chosen = {each[i] for i in train[rows]}
    assert chosen
    assert not chosen & {each[i] for i in train[~rows]}
    assert len(chosen) == max(1, round(subjects / 5))


def test_held_out_rows_count_within_the_training_clips(make_cache, crowd):
    subject = [9, 0, 9, 1, 2, 3]
    cache = make_cache([crowd(1, seed=i) for i in range(6)], label=[0] * 6, subject=subject)
    train = np.array([1, 3, 4, 5])
    rows = select_held_out(cache, train)
    assert rows.shape == (4,)
    assert 0 < rows.sum() < 4


@pytest.mark.parametrize("subject", [-1, 3])
def test_without_subjects_every_fifth_row_is_held_out(subject, make_cache, crowd):
    cache = make_cache(
        [crowd(1, seed=i) for i in range(12)], label=[0] * 12, subject=[subject] * 12
    )
    assert select_held_out(cache, np.arange(12)).nonzero()[:, 0].tolist() == [0, 5, 10]


def test_a_random_encoder_is_of_the_same_size_and_of_its_seed_alone(encoder):
    torch.manual_seed(5)
    before = torch.rand(3)
    torch.manual_seed(5)
    first = make_random_encoder(encoder, 1)
    assert torch.equal(torch.rand(3), before)
    same, other = make_random_encoder(encoder, 1), make_random_encoder(encoder, 2)
    assert first.config == encoder.config
    weights = [dict(e.named_parameters()) for e in (first, same, other, encoder)]
    assert all(torch.equal(weights[0][n], weights[1][n]) for n in weights[0])
    assert not torch.equal(weights[0]["pos_embed"], weights[2]["pos_embed"])
    assert not torch.equal(weights[0]["pos_embed"], weights[3]["pos_embed"])


def test_figures_stand_beside_a_random_encoders_and_raw_coordinates(cache, encoder):
    figures = probe(cache, encoder, seed=3)
    sources = ["learned", "random_encoder", "coordinates"]
    assert list(figures) == ["knn", "linear", "linear_decay"]
    assert (
        list(figures["knn"]) == list(figures["linear"]) == list(figures["linear_decay"]) == sources
    )
    assert all(list(figures["knn"][s]) == [k for k in NEIGHBOURS if k <= 16] for s in sources)
    train, test = select_labelled_clips(cache)
    labels = torch.from_numpy(cache.label)
    for source, subject in (
        ("learned", encoder),
        ("random_encoder", make_random_encoder(encoder, 3)),
    ):
        features = [extract_features(subject, cache, side).retrieval for side in (train, test)]
        expected = compute_knn_accuracy(
            features[0], labels[train], features[1], labels[test], (1, 10)
        )
        assert figures["knn"][source] == expected
    assert compute_online_knn(cache, encoder, train, test) == figures["knn"]["learned"][1]
    assert list(probe(cache, encoder, ("knn",))) == ["knn"]
    assert set(probe(cache, encoder, ("linear",))) == {"linear", "linear_decay"}


def test_labels_reach_the_right_clips(cache, encoder):
    """Hands that wave or not are easy to tell apart. Labels in another order would lower the
    figures to chance.
    """
    figures = probe(cache, encoder)
    assert figures["linear"]["learned"] == 1.0
    assert figures["knn"]["learned"][1] == 1.0


def test_encoders_that_do_not_fit_are_refused(cache, encoder):
    check_encoder_fits(cache, encoder)
    for joints, channels in ((17, 3), (25, 2)):
        other = Encoder(EncoderConfig(width=8, depth=1, heads=2), joints, channels)
        with pytest.raises(UserError, match=rf"{joints} joints with {channels} channels"):
            check_encoder_fits(cache, other)
        with pytest.raises(UserError):
            probe(cache, other)


def test_a_limited_probe_agrees_with_the_online_figure(cache):
    encoder = Encoder(EncoderConfig(width=16, depth=1, heads=2)).eval()
    figures = probe(cache, encoder, ("knn",), limit=7)["knn"]
    assert figures["learned"][1] == compute_online_knn(
        cache, encoder, *select_labelled_clips(cache, limit=7)
    )
    assert 10 not in figures["learned"]  # of seven training clips
    assert 10 in probe(cache, encoder, ("knn",))["knn"]["learned"]
