"""The data set as a whole: its split, its reproducibility, and how hard it is."""

import numpy as np
import pytest

from slim_fast.data.cache import ClipCache
from slim_fast.data.synthetic import ACTIONS, generate_clip, write_synthetic
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    path = tmp_path_factory.mktemp("synthetic") / "cache"
    return write_synthetic(path, seed=1, subjects=12, repetitions=3, progress=False)


def test_every_subject_does_every_action_and_subjects_are_held_out(cache):
    assert isinstance(cache, ClipCache)
    assert cache.topology == get_topology("ntu-25")
    assert tuple(cache.classes) == ACTIONS
    counts = np.zeros((12, len(ACTIONS)), int)
    np.add.at(counts, (cache.subject, cache.label), 1)
    assert (counts == 3).all()
    train, test = cache.split("xsub")
    assert len(train) + len(test) == len(cache)
    assert len(set(cache.subject[test])) == 4
    assert not set(cache.subject[train]) & set(cache.subject[test])
    assert len(set(cache.names)) == len(cache)
    assert set(cache.camera) == {0, 1, 2}


def test_clips_are_those_generated_alone(cache):
    for i in (0, 100, len(cache) - 1):
        action = cache.classes[cache.label[i]]
        clip = generate_clip(action, int(cache.subject[i]), i % 3, seed=1)
        stored = cache.clip(i)  # its people ranked
        assert sorted(x.tobytes() for x in stored.T) == sorted(
            x.tobytes() for x in clip.positions.T
        )
        assert str(cache.names[i]) == clip.name


def test_a_seed_fixes_every_byte(tmp_path):
    few = {"subjects": 3, "repetitions": 1, "actions": ["wave", "hug"], "progress": False}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_synthetic(tmp_path / name, seed=seed, **few)
    bytes_of = {name: (tmp_path / name / "positions.npy").read_bytes() for name in "abc"}
    assert bytes_of["a"] == bytes_of["b"] != bytes_of["c"]


def test_classes_follow_the_chosen_actions(tmp_path):
    chosen = write_synthetic(
        tmp_path / "few",
        subjects=3,
        repetitions=1,
        actions=["hug", "wave"],
        programs=1,
        progress=False,
    )
    assert tuple(chosen.classes) == ("hug", "wave", "program 0")
    assert [chosen.people[chosen.label == label].tolist() for label in (0, 1, 2)] == [
        [2, 2, 2],
        [1, 1, 1],
        [1, 1, 1],
    ]
    whole = generate_clip("wave", 0, 0, seed=0).positions
    np.testing.assert_array_equal(chosen.clip(int(np.flatnonzero(chosen.label == 1)[0])), whole)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"subjects": 1}, "leave nothing to train or to test on"),
        ({"repetitions": 0}, "leave nothing to train or to test on"),
        ({"test_fraction": 1.0}, "leave nothing to train or to test on"),
        ({"actions": []}, "one or more different names"),
        ({"actions": ["wave", "wave"]}, "one or more different names"),
        ({"actions": ["wave", "fly"]}, "no synthetic action 'fly'"),
        ({"seed": -1}, "0 or more"),
    ],
)
def test_bad_arguments_leave_nothing_behind(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        write_synthetic(
            tmp_path / "bad", progress=False, **{"subjects": 3, "repetitions": 1, **changes}
        )
    assert list(tmp_path.iterdir()) == []


def resampled(clip, frames=64):
    """(T, V, 3, M) -> (frames, V, 3, M) by linear interpolation."""
    at = np.linspace(0, len(clip) - 1, frames)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(clip) - 1)
    share = (at - low)[:, None, None, None]
    return clip[low] * (1 - share) + clip[high] * share


def raw_features(cache, i):
    clip = resampled(cache.clip(i))
    clip = clip - clip[:1, 1:2, :, :1]
    return np.concatenate([clip, np.zeros_like(clip)], 3)[..., :2].ravel()


def invariant_features(cache, i):
    """Order statistics of every joint in the person's own frame, acting side first: blind to view,
    phase and side.
    """
    clip = resampled(cache.clip(i))
    mirror, people = list(cache.topology.mirror), []
    for joints in np.moveaxis(clip, 3, 0):
        across = (joints[0, 16] - joints[0, 12] + joints[0, 8] - joints[0, 4])[[0, 2]]
        cos, sin = across / np.linalg.norm(across)
        body = joints - joints[:, 1:2]
        x, z = body[..., 0].copy(), body[..., 2].copy()
        body[..., 0], body[..., 2] = cos * x + sin * z, cos * z - sin * x
        if body[:, [6, 14]].var(0).sum() > body[:, [10, 18]].var(0).sum():
            body = body[:, mirror] * (-1, 1, 1)
        flat = np.concatenate([body, joints[:, 1:2] - joints[0, 1]], 1).reshape(len(body), -1)
        motion = [np.abs(flat[lag:] - flat[:-lag]).mean(0) for lag in (1, 2, 4, 8, 16)]
        quantiles = np.quantile(flat, [0, 0.1, 0.5, 0.9, 1], axis=0)
        people.append(np.concatenate([*quantiles, *motion, flat[32:].mean(0) - flat[:32].mean(0)]))
    people.sort(key=lambda features: -np.abs(features).sum())
    return np.concatenate([*people, np.zeros_like(people[0])][:2])


def ridge_accuracy(features, labels, train, test):
    features = (features - features[train].mean(0)) / (features[train].std(0) + 1e-3)
    kernel = features @ features[train].T
    weights = np.linalg.solve(
        kernel[train] + 0.02 * np.trace(kernel[train]) / len(train) * np.eye(len(train)),
        np.eye(16)[labels[train]],
    )
    return ((kernel[test] @ weights).argmax(1) == labels[test]).mean()


def test_raw_coordinates_do_not_solve_it_and_view_invariant_features_nearly_do(cache):
    train, test = cache.split("xsub")
    raw = np.stack([raw_features(cache, i) for i in range(len(cache))])
    gaps = (
        (raw[test] ** 2).sum(1)[:, None] - 2 * raw[test] @ raw[train].T + (raw[train] ** 2).sum(1)
    )
    nearest = cache.label[train][gaps.argmin(1)]
    assert 0.35 < (nearest == cache.label[test]).mean() < 0.75
    ideal = np.stack([invariant_features(cache, i) for i in range(len(cache))])
    accuracy = ridge_accuracy(ideal, cache.label, train, test)
    assert accuracy > 0.8
    assert accuracy > ridge_accuracy(raw, cache.label, train, test) + 0.1
