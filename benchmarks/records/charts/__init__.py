"""The results as pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.records.charts.bars import (
    ENGINE,
    draw_drop_in,
    draw_engine,
    draw_inference,
    draw_kernels,
)
from benchmarks.records.charts.memory import draw_memory
from benchmarks.records.charts.roofline import draw_roofline
from benchmarks.records.charts.scaling import draw_scaling
from benchmarks.records.recorder import Result


@dataclass(frozen=True)
class Chart:
    """A picture of one machine's results on one device."""

    benchmarks: tuple[str, ...]
    """Those it shows; it stands above the first one's table."""
    draw: Callable[[Sequence[Result], Path], Path | None]
    """Draws it to a path and returns that, or None where the results do not have what it shows."""


CHARTS = {
    "inference-speedups": Chart(("inference",), draw_inference),
    "drop-in-speedups": Chart(("drop_in",), draw_drop_in),
    "speedups": Chart(tuple(ENGINE), draw_engine),
    "kernel-speedups": Chart(("kernels",), draw_kernels),
    "roofline": Chart(("kernels", "ceilings"), draw_roofline),
    "memory": Chart(("prototype_loss_memory",), draw_memory),
    "scaling": Chart(("scaling",), draw_scaling),
}
