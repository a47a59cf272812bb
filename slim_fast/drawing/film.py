"""A stream's predictions as a film: skeletons, the predicted class, and probabilities as bars."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slim_fast.drawing import style
from slim_fast.drawing.lettering import Letters
from slim_fast.drawing.poses import project
from slim_fast.drawing.stick_figures import Floats, joint_sides, legend_entries, person_colours
from slim_fast.errors import UserError
from slim_fast.skeletons import Topology
from slim_fast.writing import replace_atomically

WIDTH, HEIGHT, FILM_DPI = 6.4, 3.2, 90  # inches, pixels an inch
GIF_RATE = 20  # frames a second: a GIF counts in hundredths of a second
BARS, MIN_BARS = 8, 4  # with fewer classes the lower bars stay empty
LEFT, TITLE = 0.03, 13  # fraction of the width, points
BODY = (0.02, 0.09, 0.46, 0.7)  # left, bottom, width, height
PLOT = (0.71, 0.12, 0.25, 0.66)


def check_film(path: str | Path) -> None:
    """Raises: UserError unless the path ends in .gif, or in .mp4 where ffmpeg is installed."""
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
    """Draw a clip and its class probabilities at the recorded speed; returns the path.

    Bars show the classes with the highest probabilities in any frame, at most 8.

    Args:
        clip: (T, V, C, M); absent people and undetected joints (all zeros) are left out.
        probabilities: (T, classes), NaN before the first prediction.
        classes: their names.
        topology: of V joints.
        path: a GIF, drawn at 20 frames a second, or an MP4.
        channels: as in `contact_sheet`.
        caption: written above the skeletons, with the time.
        rate: frames a second of the clip.

    Raises: UserError for shapes that do not fit, no matplotlib, no ffmpeg, or a path that cannot be
    written.
    """
    path = Path(path)
    if clip.ndim != 4 or not len(clip) or clip.shape[1] != topology.num_joints:
        raise UserError(
            f"Cannot draw a film of shape {clip.shape}: expected (frames, {topology.num_joints} "
            f"joints of {topology.name}, coordinates, people)."
        )
    if probabilities.shape != (len(clip), len(classes)):
        raise UserError(
            f"The probabilities have the shape {probabilities.shape}, but {len(clip)} frames of "
            f"{len(classes)} classes need {(len(clip), len(classes))}."
        )
    shown = min(rate, GIF_RATE) if path.suffix.lower() == ".gif" else rate
    writer = _writer(path, shown)
    poses = project(clip.transpose(0, 3, 1, 2), topology, channels)
    scene = _Scene(poses, probabilities, classes, topology, caption)
    times = np.arange(0, len(clip), rate / shown).astype(int)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            replace_atomically(path) as temporary,
            writer.saving(scene.figure, str(temporary), FILM_DPI),
        ):
            for index in progress(range(len(times))):
                frame = int(times[index])
                scene.show(frame, f"{caption} · {frame / rate:.1f} s")
                writer.grab_frame()
    except OSError as error:
        raise UserError(f"Cannot write the film {path}: {error.strerror or error}.") from error
    return path


def _writer(path: Path, rate: int) -> Any:
    """matplotlib's writer for the file's ending."""
    try:
        from matplotlib.animation import FFMpegWriter, PillowWriter
    except ImportError as error:
        raise UserError(
            "Drawing needs matplotlib, which is not installed: run `pip install matplotlib`."
        ) from error
    if path.suffix.lower() == ".gif":
        return PillowWriter(fps=rate)
    if path.suffix.lower() != ".mp4":
        raise UserError(f"Cannot draw the film {path}: name it with the ending .gif or .mp4.")
    if not FFMpegWriter.isAvailable():
        raise UserError(
            f"Cannot draw {path}: ffmpeg is not installed; install it or choose a name that ends "
            "in .gif."
        )
    return FFMpegWriter(fps=rate)


class _Scene:
    """Artists, updated by `show`; poses (T, M, V, 2), probabilities (T, classes)."""

    def __init__(
        self,
        poses: Floats,
        probabilities: Floats,
        classes: Sequence[str],
        topology: Topology,
        caption: str = "",
    ) -> None:
        from matplotlib.collections import LineCollection

        self.poses, self.probabilities, self.classes = poses, probabilities, classes
        self.ends = np.array(topology.bones).reshape(-1, 2)
        self.figure = style.new_figure(WIDTH, HEIGHT)
        peak = np.nan_to_num(probabilities).max(0)
        self.shown = np.sort(np.argsort(-peak, kind="stable")[:BARS])
        self.letters = Letters([caption, *(classes[number] for number in self.shown)])
        body = self.figure.add_axes(BODY)
        body.set_axis_off()
        body.set_aspect("equal")
        points = poses[np.isfinite(poses).all(-1)]  # (points, 2)
        low, high = (points.min(0), points.max(0)) if len(points) else (np.zeros(2), np.ones(2))
        margin = 0.05 * float((high - low).max()) or 1.0
        body.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin))
        self.people = []
        for person in range(poses.shape[1]):
            colours = person_colours(joint_sides(topology), person)
            bones = LineCollection(
                [], colors=[colours[child] for child, _ in topology.bones], linewidths=2.2
            )
            bones.set_capstyle("round")
            body.add_collection(bones)
            dots = body.scatter(points[:0, 0], points[:0, 1], s=9, zorder=3)
            dots.set_color(colours)
            self.people.append((bones, dots))
        text: dict[str, Any] = {"va": "top", "parse_math": False, "fontfamily": self.letters.family}
        self.title = self.figure.text(
            LEFT, 0.96, "", fontsize=TITLE, fontweight="bold", color=style.INK, **text
        )
        self.caption = self.figure.text(
            LEFT, 0.87, "", fontsize=style.SMALL, color=style.GREY, **text
        )
        left = LEFT
        for name, colour in legend_entries(int(np.isfinite(poses).any((0, 2, 3)).sum())):
            self.figure.text(left, 0.03, name, fontsize=style.SMALL, color=colour)
            left += (self.letters.width(name, style.SMALL) + 0.12) / WIDTH
        self._bars()

    def _bars(self) -> None:
        axes = self.figure.add_axes(PLOT, xlim=(0, 1))
        self.bars = axes.barh(range(len(self.shown)), np.zeros(len(self.shown)), height=0.7)
        width = (PLOT[0] - BODY[0] - BODY[2]) * WIDTH - 0.15
        axes.set_yticks(
            range(len(self.shown)),
            [self.letters.elide(self._name(i), style.SMALL + 0.5, width) for i in self.shown],
            parse_math=False,
            fontfamily=self.letters.family,
        )
        axes.set_ylim(-0.5, max(len(self.shown), MIN_BARS) - 0.5)
        axes.invert_yaxis()
        style.tidy(axes, "")
        axes.set_xticks([0, 0.5, 1], ["0", "50", "100 %"])
        axes.grid(False, axis="y")

    def _name(self, number: int) -> str:
        return self.letters.class_name(number, self.classes[number])

    def show(self, frame: int, caption: str) -> None:
        """Move the skeletons and bars to a frame."""
        for (bones, dots), joints in zip(self.people, self.poses[frame], strict=True):
            bones.set_segments(joints[self.ends])
            dots.set_offsets(joints)
        scores = self.probabilities[frame]
        is_known = bool(np.isfinite(scores).all())
        best = int(scores.argmax()) if is_known else -1
        width = (1 - 2 * LEFT) * WIDTH
        title = f"{self._name(best)}, {scores[best]:.0%}" if is_known else "…"
        self.title.set_text(self.letters.elide(title, TITLE, width, "bold"))
        self.caption.set_text(self.letters.elide(caption, style.SMALL, width))
        for bar, number in zip(self.bars, self.shown, strict=True):
            bar.set_width(scores[number] if is_known else 0)
            bar.set_color(style.COLOURS[2] if number == best else style.PALE)
