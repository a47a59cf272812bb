"""What each op reaches, under what the machine allows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.records.charts.axes import legend_below, logarithmic
from benchmarks.records.recorder import Result
from slim_fast.drawing import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDES = ("ours", "baseline")
FILLS = {"forward": "", "forward and backward": "white"}
"""Of the points; "": the op's colour."""


def draw_roofline(results: Sequence[Result], path: Path) -> Path | None:
    """A panel for each precision of which both ceilings and ops were measured; None without any."""
    ceilings = {r["case"]["precision"]: r for r in results if r["benchmark"] == "ceilings"}
    ops = [r for r in results if r["benchmark"] == "kernels" and r["flops"] > 0]
    precisions = [name for name in ceilings if any(r["case"]["precision"] == name for r in ops)]
    if not precisions:
        return None
    ops = [r for r in ops if r["case"]["precision"] in precisions]
    names = sorted({r["case"]["op"] for r in ops})
    looks = {
        n: (style.COLOURS[i % len(style.COLOURS)], style.MARKERS[i % len(style.MARKERS)])
        for i, n in enumerate(names)
    }
    figure = style.new_figure(1.2 + 4.2 * len(precisions), 4.4)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(1, len(precisions), sharex=True, sharey=True, squeeze=False)[0]
    for axes, precision in zip(panels, precisions, strict=True):
        gflops, gbytes = (ceilings[precision][name][1] for name in ("gflops", "gbytes"))
        reached = f"{gflops:,.0f} GFLOP/s, copy {gbytes:,.0f} GB/s"
        style.tidy(
            axes, f"Roofline, {precision}: {reached}", "floating-point operations a byte", "GFLOP/s"
        )
        logarithmic(axes, "x", (1, 100))
        logarithmic(axes, "y", [_rate(result, side) for result in ops for side in SIDES])
        _roof(axes, ceilings[precision], [r["flops"] / r["bytes"] for r in ops])
        for result in ops:
            if result["case"]["precision"] == precision:
                _op(axes, result, *looks[result["case"]["op"]])
    panels[-1].set_ylabel("" if len(panels) > 1 else "GFLOP/s")
    _legend(panels[0], looks, {r["case"]["pass"] for r in ops}, 2 * len(precisions))
    return style.save(figure, path)


def _roof(axes: Axes, ceiling: Result, intensities: Sequence[float]) -> None:
    peak, slope = ceiling["gflops"][1], ceiling["gbytes"][1]
    ridge = peak / slope
    left, right = 0.5 * min(*intensities, ridge), 3 * max(*intensities, ridge)
    axes.plot([left, ridge, right], [slope * left, peak, peak], color=style.INK, linewidth=1.6)


def _op(axes: Axes, result: Result, colour: str, marker: str) -> None:
    """A point, and a line to it from the baseline."""
    x = result["flops"] / result["bytes"]
    ours, baseline = (_rate(result, side) for side in SIDES)
    axes.plot([x, x], [baseline, ours], color=style.tint(colour, 0.4), linewidth=1)
    fill = FILLS[result["case"]["pass"]] or colour
    axes.plot(
        x, ours, marker, color=colour, markerfacecolor=fill, markersize=6, markeredgewidth=1.4
    )


def _rate(result: Result, side: str) -> float:
    """GFLOP/s."""
    return result["flops"] / result["seconds"][side][1] / 1e9


def _legend(axes: Axes, looks: dict[str, tuple[str, str]], passes: set[str], columns: int) -> None:
    shown = {
        name: {"color": colour, "marker": marker, "linestyle": "", "markersize": 6}
        for name, (colour, marker) in looks.items()
    }
    for name in filter(passes.__contains__, FILLS):
        fill = FILLS[name] or style.GREY
        point = {"color": style.GREY, "marker": "o", "linestyle": ""}
        shown[name] = {**point, "markerfacecolor": fill}
    shown["from the baseline"] = {"color": style.FAINT, "linewidth": 1}
    legend_below(axes, shown, columns, fontsize=style.SMALL)
