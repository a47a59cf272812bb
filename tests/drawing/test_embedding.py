"""Features in the plane."""

import sys

import numpy as np
import pytest

from slim_fast import drawing
from slim_fast.drawing import embedding
from slim_fast.errors import UserError

pytest.importorskip("matplotlib")


def test_pca_keeps_what_lies_in_a_plane():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(30, 2))
    features = flat @ np.linalg.qr(rng.normal(size=(5, 2)))[0].T + 7
    plane, name = embedding.project_features(features, "pca")
    distances = [np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (flat, plane)]
    np.testing.assert_allclose(*distances, atol=1e-10)
    assert name == "PCA, 100 % of the variance"
    assert np.var(plane[:, 0]) >= np.var(plane[:, 1])


@pytest.mark.parametrize("width", [1, 4])
def test_degenerate_features_are_drawn(width, tmp_path):
    same = np.ones((5, width))
    assert drawing.draw_embedding(
        same, [0, 0, 1, 1, -1], ["$a", "b$"], tmp_path / "a.png", method="pca"
    ).exists()


def test_tsne_is_said_in_the_title(tmp_path, figures):
    pytest.importorskip("sklearn")
    centres = np.repeat(np.eye(3) * 50, 20, axis=0)
    features = centres + np.random.default_rng(0).normal(size=(60, 3))
    points, name = embedding.project_features(features, "auto")
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.eye(60) * 1e9
    assert (distances.argmin(1) // 20 == np.arange(60) // 20).all()
    drawing.draw_embedding(features, np.arange(60) // 20, list("abc"), tmp_path / "a.png")
    assert name in figures[0].axes[0].get_title(loc="left")


def test_without_scikit_learn_the_picture_is_pca_and_says_what_is_missing(
    tmp_path, figures, monkeypatch
):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    features = np.random.default_rng(0).normal(size=(9, 3))
    drawing.draw_embedding(features, [0] * 9, ["a"], tmp_path / "a.png")
    drawing.draw_embedding(features, [0] * 9, ["a"], tmp_path / "b.png", method="pca")
    assert all("(PCA, " in figure.axes[0].get_title(loc="left") for figure in figures)
    assert "scikit-learn is not installed" in figures[0].axes[0].texts[0].get_text()
    assert not figures[1].axes[0].texts
    with pytest.raises(UserError, match="pip install scikit-learn"):
        drawing.draw_embedding(features, [0] * 9, ["a"], tmp_path / "c.png", method="tsne")


def test_many_classes_look_different_and_the_unlabelled_come_last(tmp_path, figures):
    looks = {
        (look["facecolor"], look["edgecolor"], look["marker"])
        for look in map(embedding.class_style, range(140))
    }
    assert len(looks) == 140
    features = np.random.default_rng(0).normal(size=(6, 3))
    drawing.draw_embedding(
        features, [-1, 2, 0, 2, -1, 0], ["a", "b", "c"], tmp_path / "a.png", method="pca"
    )
    legend = figures[0].axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["a", "c", "unlabelled"]
