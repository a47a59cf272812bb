"""Features in the plane, coloured by class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slim_fast.drawing import style
from slim_fast.drawing.lettering import Letters
from slim_fast.errors import UserError

MAX_POINTS = 3000  # with more, t-SNE is slow and points cover each other
LEGEND_LINES = 28
TSNE_NAME = "t-SNE"
SIDE, TITLE, MARGIN, NAME = 5.6, 0.4, 0.12, 1.9  # inches; the last is of a class name


def draw_embedding(
    features: NDArray[np.floating],
    labels: NDArray[np.integer] | Sequence[int],
    class_names: Sequence[str],
    path: str | Path,
    method: str = "auto",
) -> Path:
    """Draw features as points in the plane, one colour and marker a class; returns the path.

    Args:
        features: (N, D), all finite, N at least 3; of more than 3,000 every n-th is drawn.
        labels: (N,), indices into ``class_names``; -1 is unlabelled.
        class_names: names of the classes.
        path: the picture; its ending gives the format.
        method: "pca", "tsne" (needs scikit-learn), or "auto": t-SNE, which keeps neighbours
            together, or PCA where scikit-learn is missing. The title says which.

    Raises: UserError for shapes or labels that do not fit, values that are not finite, an unknown
    method or one whose library is missing, no matplotlib, or a path that cannot be written.
    """
    features, labels = np.asarray(features, np.float64), np.asarray(labels)
    if features.ndim != 2 or labels.shape != features.shape[:1] or len(features) < 3:
        raise UserError(
            f"Cannot draw features of shape {features.shape} with labels of shape {labels.shape}: "
            "expected (N, D) and (N,), at least 3 of them."
        )
    if not np.isfinite(features).all():
        raise UserError("Some features to draw are NaN or infinite.")
    if labels.min() < -1 or labels.max() >= len(class_names):
        raise UserError(
            f"A label to draw lies outside -1 .. {len(class_names) - 1}, the {len(class_names)} "
            "classes."
        )
    chosen = np.linspace(0, len(features) - 1, min(len(features), MAX_POINTS)).round().astype(int)
    points, name = project_features(features[chosen], method)
    labels = labels[chosen]

    present = sorted({int(label) for label in labels}, key=lambda label: (label < 0, label))
    figure = style.new_figure(SIDE, SIDE)
    axes = figure.add_axes((0, 0, 1, 1))
    size = float(np.clip(14000 / len(points), 10, 36))
    letters = Letters(str(class_names[label]) for label in present if label >= 0)
    for label in present:
        x, y = points[labels == label].T
        axes.scatter(x, y, s=size, label=_name(label, class_names, letters), **class_style(label))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(style.PALE)
    axes.set_title(
        f"{len(points):,} clips by their features ({name})",
        loc="left",
        fontsize=style.LARGE,
        fontweight="bold",
        color=style.INK,
    )
    axes.margins(0.04)
    if method == "auto" and name != TSNE_NAME:
        missing = "scikit-learn is not installed; with it this would be t-SNE, which keeps "
        note: dict[str, Any] = {"fontsize": style.SMALL, "color": style.GREY, "bbox": style.PAPER}
        text = f"{missing}neighbours together"
        axes.annotate(text, (0.01, 0.01), xycoords="axes fraction", **note)
    shown = axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
        frameon=False,
        handletextpad=0.2,
        columnspacing=1.0,
        ncols=-(-len(present) // LEGEND_LINES),
        labelspacing=0.45,
        prop={"size": style.SMALL + 0.5, "family": letters.family},
    )
    for handle in shown.legend_handles:
        handle.set_sizes([28])  # type: ignore[union-attr]
    figure.draw_without_rendering()
    width = SIDE + shown.get_window_extent().width / figure.dpi + 2 * MARGIN
    figure.set_size_inches(width, SIDE)
    axes.set_position(
        (MARGIN / width, MARGIN / SIDE, (SIDE - 2 * MARGIN) / width, 1 - (TITLE + MARGIN) / SIDE)
    )
    return style.save(figure, path)


def _name(label: int, class_names: Sequence[str], letters: Letters) -> str:
    name = letters.class_name(label, str(class_names[label])) if label >= 0 else "unlabelled"
    return letters.elide(name, style.SMALL + 0.5, NAME).replace("$", r"\$")


def class_style(label: int) -> dict[str, Any]:
    """Colour and marker of a class; the first 140 are all different."""
    if label < 0:
        return {"color": style.PALE, "marker": "o", "linewidth": 0.3, "zorder": 1}
    cycle, index = divmod(label // len(style.COLOURS), len(style.MARKERS))
    colour, marker = style.COLOURS[label % len(style.COLOURS)], style.MARKERS[index]
    face, edge, width = ("white", colour, 0.9) if cycle % 2 else (colour, "white", 0.3)
    look = {"facecolor": face, "edgecolor": edge, "linewidth": width}
    return {**look, "marker": marker, "zorder": 2}


def project_features(features: NDArray[np.float64], method: str) -> tuple[NDArray[np.float64], str]:
    """Features (N, D) in the plane, (N, 2), and the method's name."""
    if method not in ("auto", "pca", "tsne"):
        raise UserError(
            f"There is no way of drawing features called {method!r}; choose auto, pca or tsne."
        )
    if method != "pca":
        try:
            from sklearn.manifold import TSNE  # type: ignore[import-untyped, unused-ignore]
        except ImportError as error:
            if method == "tsne":
                raise UserError(
                    "t-SNE needs scikit-learn: run `pip install scikit-learn`."
                ) from error
        else:
            reduced = _principal(features, 50)
            reduced = reduced / max(float(reduced[:, 0].std()), 1e-12)
            tsne = TSNE(
                perplexity=min(30.0, (len(features) - 1) / 3),
                init=reduced[:, :2] * 1e-4,
                random_state=0,
            )
            return np.asarray(tsne.fit_transform(reduced), np.float64), TSNE_NAME
    plane = _principal(features, 2)
    total = max(float(((features - features.mean(0)) ** 2).sum()), 1e-300)
    return plane, f"PCA, {100 * float((plane**2).sum()) / total:.0f} % of the variance"


def _principal(features: NDArray[np.float64], components: int) -> NDArray[np.float64]:
    """Principal components (N, components) of features (N, D), zeros past the rank."""
    left, singular, _ = np.linalg.svd(features - features.mean(0), full_matrices=False)
    out = np.zeros((len(features), components))
    rank = min(components, len(singular))
    out[:, :rank] = left[:, :rank] * singular[:rank]
    return out
