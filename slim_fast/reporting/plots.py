"""The page's interactive plots, as HTML that needs Plotly's script once on the page.

Texts and lines take the page's colours from its style sheet; figures are transparent.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from slim_fast.drawing import style
from slim_fast.drawing.curves import PANELS, Panel, running_median
from slim_fast.drawing.embedding import class_style
from slim_fast.errors import UserError

ROW, BAR = 22, 22  # pixels of a class in the confusion matrix and among the bars
LONGEST = 22  # letters of a name on an axis
ACCURACY = Panel("knn_top1", "Online 1-NN accuracy")
_SYMBOLS = dict(
    zip(
        style.MARKERS,
        (
            "circle",
            "triangle-up",
            "square",
            "cross",
            "triangle-down",
            "x",
            "diamond",
            "triangle-left",
            "star",
            "triangle-right",
        ),
        strict=True,
    )
)
# on light and dark alike
_SHARES = [[0, "rgba(127,127,127,0.07)"], [1, "rgba(0,114,178,0.75)"]]  # COLOURS[0]
_ATTENTION = [[0, "rgba(127,127,127,0.07)"], [1, "rgba(204,121,167,0.95)"]]  # COLOURS[3]


def load_library() -> Any:
    """plotly.graph_objects. Raises: UserError naming what installs it."""
    try:
        import jinja2  # noqa: F401
        import plotly.graph_objects as plotly
    except ImportError as error:
        raise UserError(
            f"A report needs {error.name}, which is not installed: run "
            '`pip install "slim_fast[report]"`.'
        ) from error
    return plotly


def plot_curves(
    records: Sequence[Mapping[str, Any]], prototypes: int | None = None
) -> list[tuple[str, str]]:
    """(title, plot) of every number that some records have, over the steps.

    prototypes: K; given, a line marks what uniform predictions cost.
    """
    plots = []
    for panel in (*PANELS[:1], ACCURACY, *PANELS[1:]):
        pairs = [(r["step"], r[panel.key]) for r in records if r.get(panel.key) is not None]
        points = np.array(sorted(pairs), np.float64).reshape(-1, 2)
        points = points[np.isfinite(points).all(1)]
        if len(points):
            plots.append((panel.title, _plot_curve(panel, points[:, 0], points[:, 1], prototypes)))
    return plots


def _plot_curve(panel: Panel, steps: np.ndarray, values: np.ndarray, prototypes: int | None) -> str:
    go = load_library()
    figure = go.Figure()
    if panel is ACCURACY:
        look = {"mode": "lines+markers", "hovertemplate": "step %{x}: %{y:.1%}<extra></extra>"}
        figure.update_yaxes(tickformat=".0%")
    else:
        look = {"mode": "lines", "hovertemplate": "step %{x}: %{y:.4g}<extra></extra>"}
        faint = {"color": style.COLOURS[0], "width": 1}
        figure.add_scatter(x=steps, y=values, line=faint, opacity=0.35, hoverinfo="skip")
        steps, values = running_median(steps, values)
    figure.add_scatter(x=steps, y=values, line={"color": style.COLOURS[0], "width": 2}, **look)
    if panel.log_k is not None and prototypes:
        uniform = panel.log_k * math.log(prototypes)
        line = {"color": style.COLOURS[1], "width": 1, "dash": "dash"}
        note = {"annotation_text": "uniform guess", "annotation_font_size": 10}
        figure.add_hline(y=uniform, line=line, annotation_position="top right", **note)
    figure.update_xaxes(nticks=5)
    figure.update_yaxes(nticks=5)
    return _to_html(figure, f"curve-{panel.key.replace('_', '-')}", 200)


def plot_confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """True classes downwards, predicted ones rightwards; colours are shares of a true class."""
    go = load_library()
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [_short(name) for name in classes]
    numbers = np.arange(len(classes))
    whole = np.array([_plain(name) for name in classes], dtype=object)
    hover = np.stack(np.broadcast_arrays(whole[:, None], whole[None], counts), -1)
    figure = go.Figure(
        go.Heatmap(
            z=shares.round(3),
            x=numbers,
            y=numbers,
            customdata=hover,
            colorscale=_SHARES,
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=1,
            ygap=1,
            text=np.where(counts > 0, counts.astype(str), ""),
            texttemplate="%{text}",
            textfont={"size": 10},
            hovertemplate="%{customdata[0]} taken for %{customdata[1]}: %{customdata[2]} "
            "(%{z:.0%})<extra></extra>",
        )
    )
    ticks = {"tickvals": numbers, "ticktext": names, "showgrid": False, "zeroline": False}
    figure.update_xaxes(title="nearest neighbour's class", tickangle=-60, **ticks)
    figure.update_yaxes(title="class", autorange="reversed", **ticks)
    return _to_html(figure, "confusion-plot", max(320, ROW * len(classes) + 170), ticks=9)


def plot_class_accuracies(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Bars, the worst class first; classes without a test clip are left out."""
    go = load_library()
    counts = np.asarray(confusion)
    total = counts.sum(1)
    shares = np.diag(counts) / np.maximum(total, 1)
    order = [int(i) for i in np.argsort(shares, kind="stable") if total[i]]
    hover = [f"{_plain(classes[i])}: {counts[i, i]} of {total[i]} right" for i in order]
    figure = go.Figure(
        go.Bar(
            x=shares[order],
            y=np.arange(len(order)),
            orientation="h",
            marker={"color": style.COLOURS[0]},
            customdata=hover,
            hovertemplate="%{customdata}<extra></extra>",
            text=[f"{share:.0%}" for share in shares[order]],
            textposition="outside",
            cliponaxis=False,
        )
    )
    names = [_short(classes[i]) for i in order]
    figure.update_xaxes(range=[0, 1.2], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_yaxes(autorange="reversed", tickvals=np.arange(len(order)), ticktext=names)
    return _to_html(figure, "classes-plot", max(160, BAR * len(order) + 60), ticks=11)


def plot_embedding(
    points: np.ndarray, labels: np.ndarray, classes: Mapping[int, str], details: Sequence[Any]
) -> str:
    """Points (N, 2) by class, labels (N,); a point's `details` are what the page's script shows
    when it is hovered.
    """
    go = load_library()
    figure = go.Figure()
    for label in sorted(classes, key=lambda label: (label < 0, label)):
        rows = np.flatnonzero(labels == label)
        look = class_style(label)
        face, edge = look.get("facecolor", look.get("color")), look.get("edgecolor", style.GREY)
        hollow = face == "white"
        colour = edge if hollow else face
        colour = style.GREY if colour in (style.INK, style.PALE) else colour
        figure.add_scatter(
            x=points[rows, 0],
            y=points[rows, 1],
            mode="markers",
            name=_short(classes[label]),
            marker={
                "symbol": _SYMBOLS[look["marker"]] + "-open" * hollow,
                "color": colour,
                "size": 9,
                "line": {"width": 1.2 if hollow else 0, "color": colour},
            },
            customdata=[details[int(row)] for row in rows],
            text=[_plain(classes[label])] * len(rows),
            hovertemplate="%{text}<extra></extra>",
        )
    bare = {"showticklabels": False, "showgrid": False, "zeroline": False, "ticks": ""}
    figure.update_xaxes(**bare)
    figure.update_yaxes(**bare)
    figure.update_layout(
        hovermode="closest",
        showlegend=len(classes) > 1,
        legend={"orientation": "h", "y": -0.02, "yanchor": "top", "font": {"size": 11}},
    )
    return _to_html(figure, "embedding-plot", 480 + 4 * len(classes))


def plot_attention(shares: np.ndarray, joints: Sequence[str]) -> str:
    """Shares (T / 8, V) of CLS's attention: joints downwards, time rightwards."""
    go = load_library()
    figure = go.Figure(
        go.Heatmap(
            z=shares.T,
            x=[f"{8 * t}–{8 * t + 7}" for t in range(len(shares))],
            y=np.arange(len(joints)),
            customdata=np.repeat(np.array([_plain(j) for j in joints])[:, None], len(shares), 1),
            colorscale=_ATTENTION,
            zmin=0,
            showscale=False,
            xgap=1,
            ygap=1,
            hovertemplate="%{customdata}, frames %{x}: %{z:.2%}<extra></extra>",
        )
    )
    names = [_short(joint.replace("_", " ")) for joint in joints]
    ticks = {"tickvals": np.arange(len(joints)), "ticktext": names}
    figure.update_yaxes(autorange="reversed", showgrid=False, zeroline=False, **ticks)
    figure.update_xaxes(title="frames of the evaluation clip", showgrid=False, tickangle=0)
    return _to_html(figure, "attention-plot", 18 * len(joints) + 80, ticks=10)


def _plain(text: str) -> str:
    """Text that Plotly shows as it is: it reads tags and these entities."""
    return escape(text, quote=False)


def _short(name: str) -> str:
    return _plain(name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…")


def _to_html(figure: Any, name: str, height: int, ticks: int = 11) -> str:
    """The figure's element, called `name`, and the call that fills it."""
    from plotly.io import to_html

    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 4, "r": 8, "t": 8, "b": 4, "autoexpand": True},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12},
        showlegend=bool(figure.layout.showlegend),
        dragmode=False,
    )
    figure.update_xaxes(automargin=True, tickfont={"size": ticks})
    figure.update_yaxes(automargin=True, tickfont={"size": ticks})
    config = {"responsive": True, "displayModeBar": False}
    return str(to_html(figure, config=config, include_plotlyjs=False, full_html=False, div_id=name))
