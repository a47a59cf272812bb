"""Features in the plane, coloured by class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slim_fast.drawing import style
from slim_fast.errors import UserError

MAX_POINTS = 3000  # beyond these t-SNE is slow and the picture a blur
LEGEND_LINES = 28
SIDE, TITLE, MARGIN = 5.6, 0.4, 0.12  # inches


def draw_embedding(
    features: NDArray[np.floating],
    labels: NDArray[np.integer] | Sequence[int],
    class_names: Sequence[str],
    path: str | Path,
    method: str = "auto",
) -> Path:
    """Draw features as points in the plane, one look a class; returns the path.

    Args:
        features: (N, D), all finite, N at least 3; more than 3,000 are thinned out evenly.
        labels: (N,), indices into ``class_names``; -1 is unlabelled.
        class_names: names of the classes.
        path: the picture; its ending gives the format.
        method: "pca", "tsne" (needs scikit-learn), or "auto": t-SNE where scikit-learn is installed, else PCA. The
            title says which.

    Raises:
        UserError: shapes or labels that do not fit, values that are not finite, an unknown method or one whose library
            is missing, no matplotlib, or a path that cannot be written.
    """
    features, labels = np.asarray(features, np.float64), np.asarray(labels)
    if features.ndim != 2 or labels.shape != features.shape[:1] or len(features) < 3:
        raise UserError(
            f"Cannot draw features of shape {features.shape} with labels of shape {labels.shape}: expected (N, D) and "
            "(N,), at least 3 of them."
        )
    if not np.isfinite(features).all():
        raise UserError("Some features to draw are NaN or infinite.")
    if labels.min() < -1 or labels.max() >= len(class_names):
        raise UserError(f"A label to draw lies outside -1 .. {len(class_names) - 1}, the {len(class_names)} classes.")
    chosen = np.linspace(0, len(features) - 1, min(len(features), MAX_POINTS)).round().astype(int)
    points, name = _flatten(features[chosen], method)
    labels = labels[chosen]

    present = sorted({int(label) for label in labels}, key=lambda label: (label < 0, label))
    figure = style.new_figure(SIDE, SIDE)
    axes = figure.add_axes((0, 0, 1, 1))
    size = float(np.clip(14000 / len(points), 10, 36))
    for label in present:
        x, y = points[labels == label].T
        axes.scatter(x, y, s=size, linewidth=0.3, label=_name(label, class_names), **_look(label))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(style.PALE)
    axes.set_title(
        f"{len(points):,} clips by their features ({name})",
        loc="left", fontsize=style.LARGE, fontweight="bold", color=style.INK,
    )  # fmt: skip
    axes.margins(0.04)
    shown = axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, frameon=False, handletextpad=0.2,
        columnspacing=1.0, ncols=-(-len(present) // LEGEND_LINES), fontsize=style.SMALL + 0.5, labelspacing=0.45,
    )  # fmt: skip
    for handle in shown.legend_handles:
        handle.set_sizes([28])  # type: ignore[union-attr]
    figure.draw_without_rendering()
    width = SIDE + shown.get_window_extent().width / figure.dpi + 2 * MARGIN
    figure.set_size_inches(width, SIDE)
    axes.set_position((MARGIN / width, MARGIN / SIDE, (SIDE - 2 * MARGIN) / width, 1 - (TITLE + MARGIN) / SIDE))
    return style.save(figure, path)


def _name(label: int, class_names: Sequence[str]) -> str:
    name = str(class_names[label]) if label >= 0 else "unlabelled"
    return (name if len(name) <= 28 else name[:27] + "…").replace("$", r"\$")


def _look(label: int) -> dict[str, Any]:
    """Colour and marker: neighbours differ in colour, and no two of the first 70 classes share both."""
    if label < 0:
        return {"color": style.PALE, "marker": "o", "zorder": 1}
    colours, markers = style.COLOURS, style.MARKERS
    return {
        "facecolor": colours[label % len(colours)],
        "edgecolor": "white",
        "marker": markers[label // len(colours) % len(markers)],
        "zorder": 2,
    }


def _flatten(features: NDArray[np.float64], method: str) -> tuple[NDArray[np.float64], str]:
    """(N, D) -> (N, 2), and the method's name."""
    if method not in ("auto", "pca", "tsne"):
        raise UserError(f"There is no way of drawing features called {method!r}; choose auto, pca or tsne.")
    if method != "pca":
        try:
            from sklearn.manifold import TSNE  # type: ignore[import-untyped, unused-ignore]
        except ImportError as error:
            if method == "tsne":
                raise UserError("t-SNE needs scikit-learn: run `pip install scikit-learn`.") from error
        else:
            reduced = _principal(features, 50)
            reduced = reduced / max(float(reduced[:, 0].std()), 1e-12)
            tsne = TSNE(perplexity=min(30.0, (len(features) - 1) / 3), init=reduced[:, :2] * 1e-4, random_state=0)
            return np.asarray(tsne.fit_transform(reduced), np.float64), "t-SNE"
    plane = _principal(features, 2)
    total = max(float(((features - features.mean(0)) ** 2).sum()), 1e-300)
    return plane, f"PCA, {100 * float((plane**2).sum()) / total:.0f} % of the variance"


def _principal(features: NDArray[np.float64], components: int) -> NDArray[np.float64]:
    """(N, D) -> (N, components): centred coordinates along the directions of most variance, zeros past the rank."""
    left, singular, _ = np.linalg.svd(features - features.mean(0), full_matrices=False)
    out = np.zeros((len(features), components))
    kept = min(components, len(singular))
    out[:, :kept] = left[:, :kept] * singular[:kept]
    return out
