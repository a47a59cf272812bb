"""A stream's answers as a film: the skeletons, the predicted class, and the probabilities as bars."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slim_fast.drawing import style
from slim_fast.drawing.poses import project
from slim_fast.drawing.sheet import SECOND_PERSON, Floats, joint_sides
from slim_fast.errors import UserError
from slim_fast.skeletons import Topology

WIDTH, HEIGHT, FILM_DPI = 6.4, 3.2, 90  # inches, pixels an inch
GIF_RATE = 20  # frames a second: a GIF counts in hundredths of a second
BARS = 8
LETTERS = 24  # of a bar's name


def check_film(path: str | Path) -> None:
    """Raises UserError unless `path` ends in .gif, or in .mp4 where ffmpeg is installed."""
    _writer(Path(path), GIF_RATE)


def draw_film(
    clip: Floats,
    probabilities: Floats,
    classes: Sequence[str],
    topology: Topology,
    path: str | Path,
    channels: str = "",
    caption: str = "",
    rate: int = 30,
    progress: Callable[[Sequence[int]], Iterable[int]] = lambda frames: frames,
) -> Path:
    """Draw a clip with the class probabilities at every frame, at the speed it was recorded; returns the path written.

    Bars stand for the classes that are likeliest at some time, at most 8.

    Args:
        clip: (T, V, C, M); absent people (all zeros) are left out.
        probabilities: (T, classes), NaN where there is no answer.
        classes: their names.
        topology: of V joints.
        path: a GIF, drawn at 20 frames a second, or an MP4.
        channels: as in `contact_sheet`.
        caption: stands above the skeletons, with the time.
        rate: frames a second of the clip.

    Raises:
        UserError: shapes that do not fit, no matplotlib, no ffmpeg, or a path that cannot be written.
    """
    path = Path(path)
    if clip.ndim != 4 or not len(clip) or clip.shape[1] != topology.num_joints:
        raise UserError(
            f"Cannot draw a film of shape {clip.shape}: expected (frames, {topology.num_joints} joints of "
            f"{topology.name}, coordinates, people)."
        )
    if probabilities.shape != (len(clip), len(classes)):
        raise UserError(
            f"The probabilities have the shape {probabilities.shape}, but {len(clip)} frames of {len(classes)} classes "
            f"need {(len(clip), len(classes))}."
        )
    shown = min(rate, GIF_RATE) if path.suffix.lower() == ".gif" else rate
    writer = _writer(path, shown)
    scene = _Scene(project(clip.transpose(0, 3, 1, 2), topology, channels), probabilities, classes, topology)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    times = np.arange(0, len(clip), rate / shown).astype(int)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with writer.saving(scene.figure, str(temporary), FILM_DPI):
                for place in progress(range(len(times))):
                    frame = int(times[place])
                    scene.show(frame, f"{caption} · {frame / rate:.1f} s")
                    writer.grab_frame()
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write the film {path}: {error.strerror or error}.") from error
    return path


def _writer(path: Path, rate: int) -> Any:
    try:
        from matplotlib.animation import FFMpegWriter, PillowWriter
    except ImportError as error:
        raise UserError("Drawing needs matplotlib, which is not installed: run `pip install matplotlib`.") from error
    if path.suffix.lower() == ".gif":
        return PillowWriter(fps=rate)
    if path.suffix.lower() != ".mp4":
        raise UserError(f"Cannot draw the film {path}: name it with the ending .gif or .mp4.")
    if not FFMpegWriter.isAvailable():
        raise UserError(f"Cannot draw {path}: ffmpeg is not installed; install it or choose a name that ends in .gif.")
    return FFMpegWriter(fps=rate)


class _Scene:
    """Artists that are made once; `show` moves them. poses (T, M, V, 2), probabilities (T, classes)."""

    def __init__(self, poses: Floats, probabilities: Floats, classes: Sequence[str], topology: Topology) -> None:
        from matplotlib.collections import LineCollection

        self.poses, self.probabilities, self.classes = poses, probabilities, classes
        self.ends = np.array(topology.bones).reshape(-1, 2)
        self.figure = style.new_figure(WIDTH, HEIGHT)
        body = self.figure.add_axes((0.02, 0.08, 0.5, 0.72))
        body.set_axis_off()
        body.set_aspect("equal")
        points = poses[np.isfinite(poses).all(-1)]  # (points, 2)
        low, high = (points.min(0), points.max(0)) if len(points) else (np.zeros(2), np.ones(2))
        margin = 0.05 * float((high - low).max()) or 1.0
        body.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin))
        self.people = []
        for person in range(poses.shape[1]):
            colours = [style.SIDES[side] for side in joint_sides(topology)]
            colours = [style.tint(colour, SECOND_PERSON) for colour in colours] if person else colours
            bones = LineCollection([], colors=[colours[child] for child, _ in topology.bones], linewidths=2.2)
            bones.set_capstyle("round")
            body.add_collection(bones)
            dots = body.scatter(points[:0, 0], points[:0, 1], s=9, zorder=3)
            dots.set_color(colours)
            self.people.append((bones, dots))
        text: dict[str, Any] = {"ha": "left", "va": "top", "parse_math": False}
        self.title = self.figure.text(0.03, 0.95, "", fontsize=13, fontweight="bold", color=style.INK, **text)
        self.caption = self.figure.text(0.03, 0.84, "", fontsize=style.SMALL, color=style.GREY, **text)
        legend = [(0.03, "left side", style.SIDES["left"]), (0.13, "right side", style.SIDES["right"])]
        if poses.shape[1] > 1:
            legend.append((0.25, "second person, paler", style.tint(style.INK, SECOND_PERSON)))
        for place, name, colour in legend:
            self.figure.text(place, 0.03, name, fontsize=style.SMALL, color=colour)
        self._bars()

    def _bars(self) -> None:
        peak = np.nan_to_num(self.probabilities).max(0)
        self.shown = np.sort(np.argsort(-peak, kind="stable")[:BARS])
        axes = self.figure.add_axes((0.68, 0.12, 0.28, 0.7), xlim=(0, 1))
        self.bars = axes.barh(range(len(self.shown)), np.zeros(len(self.shown)), height=0.7)
        axes.set_yticks(
            range(len(self.shown)),
            [textwrap.shorten(self.classes[i], LETTERS, placeholder="…") for i in self.shown],
            parse_math=False,
        )
        axes.invert_yaxis()
        style.tidy(axes, "")
        axes.set_xticks([0, 0.5, 1], ["0", "50", "100 %"])
        axes.grid(False, axis="y")

    def show(self, frame: int, caption: str) -> None:
        for (bones, dots), joints in zip(self.people, self.poses[frame], strict=True):
            bones.set_segments(joints[self.ends])
            dots.set_offsets(joints)
        now = self.probabilities[frame]
        answered = bool(np.isfinite(now).all())
        best = int(now.argmax()) if answered else -1
        self.title.set_text(f"{self.classes[best]}, {now[best]:.0%}" if answered else "…")
        self.caption.set_text(caption)
        for bar, number in zip(self.bars, self.shown, strict=True):
            bar.set_width(now[number] if answered else 0)
            bar.set_color(style.COLOURS[2] if number == best else style.PALE)
