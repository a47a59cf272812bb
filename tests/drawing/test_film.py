"""Films: what the artists show at each frame, and files that are whole or not there."""

from pathlib import Path

import numpy as np
import pytest

from slim_fast.drawing import film, style
from slim_fast.drawing.film import check_film, draw_film
from slim_fast.drawing.poses import project
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology

pytest.importorskip("matplotlib")
NTU = get_topology("ntu-25")
CLASSES = [f"class ${number}" for number in range(10)]


def stream(frames=12, people=2, seed=0):
    """(T, V, C, M), the second person away in the first half, and probabilities (T, 10), none in
    the first quarter.
    """
    rng = np.random.default_rng(seed)
    clip = rng.normal(1, 0.5, (frames, 25, 3, people)).astype("f")
    clip[: frames // 2, ..., 1:] = 0
    probabilities = rng.dirichlet(np.ones(10) * 0.3, frames)
    probabilities[: frames // 4] = np.nan
    return clip, probabilities


def scene(clip, probabilities, classes=CLASSES):
    return film._Scene(project(clip.transpose(0, 3, 1, 2), NTU), probabilities, classes, NTU)


def test_a_gif_has_the_clips_length_and_loops(tmp_path):
    image = pytest.importorskip("PIL.Image")
    path = draw_film(*stream(30), CLASSES, NTU, tmp_path / "new" / "a.gif")
    assert list(path.parent.iterdir()) == [path]
    with image.open(path) as gif:
        assert gif.n_frames == 20  # a second at 20 frames a second
        assert gif.info["duration"] == 50
        assert gif.info["loop"] == 0
        assert gif.size == (film.WIDTH * film.FILM_DPI, film.HEIGHT * film.FILM_DPI)
        first = np.asarray(gif.convert("RGB"))
        gif.seek(19)
        assert (np.asarray(gif.convert("RGB")) != first).any()


def test_artists_show_the_frame_they_are_told(tmp_path):
    clip, probabilities = stream()
    drawn = scene(clip, probabilities)
    for frame in (11, 1, 6):
        drawn.show(frame, "caption")
        poses = project(clip[frame].transpose(2, 0, 1), NTU)  # (M, V, 2)
        for (bones, dots), joints in zip(drawn.people, poses, strict=True):
            np.testing.assert_array_equal(np.ma.filled(dots.get_offsets(), np.nan), joints)
            ends = [
                joints[[child, parent]] for child, parent in NTU.bones if np.isfinite(joints).all()
            ]
            assert len([s for s in bones.get_segments() if np.isfinite(s).all() and len(s)]) == len(
                ends
            )
        now = probabilities[frame]
        widths = [bar.get_width() for bar in drawn.bars]
        if frame == 1:
            assert drawn.title.get_text() == "…"
            assert widths == [0] * film.BARS
        else:
            np.testing.assert_array_equal(widths, now[drawn.shown])
            assert drawn.title.get_text() == f"{CLASSES[now.argmax()]}, {now.max():.0%}"


def test_the_likeliest_bar_and_the_sides_have_their_colours():
    from matplotlib.colors import to_rgba

    clip, probabilities = stream()
    probabilities[5] = np.eye(10)[7]
    drawn = scene(clip, probabilities)
    drawn.show(5, "")
    coloured = [
        n
        for n, bar in zip(drawn.shown, drawn.bars, strict=True)
        if bar.get_facecolor() != to_rgba(style.PALE)
    ]
    assert coloured == [7]
    left = NTU.joints.index("left_elbow")
    (_, first), (_, second) = drawn.people
    assert tuple(first.get_facecolors()[left]) == to_rgba(style.SIDES["left"])
    assert tuple(second.get_facecolors()[left]) == to_rgba(style.PEOPLE[0])


def test_all_poses_lie_within_the_axes_and_no_text_is_cut_off():
    clip, probabilities = stream()
    drawn = scene(clip * 100, probabilities)
    drawn.classes = ["a class with a rather long name, " * 9] * 10
    drawn.show(
        8,
        "recordings/a_rather_long_clip_name_S001C001P001R001A050" * 4
        + ", recorded as something long · 2.5 s",
    )
    assert drawn.caption.get_text().endswith(" · 2.5 s")
    assert drawn.title.get_text().endswith(f", {probabilities[8].max():.0%}")
    body = drawn.figure.axes[0]
    drawn.figure.canvas.draw()
    points = drawn.poses[np.isfinite(drawn.poses).all(-1)]
    for low, high, values in ((*body.get_xlim(), points[:, 0]), (*body.get_ylim(), points[:, 1])):
        assert low < values.min()
        assert values.max() < high
    box = drawn.figure.bbox
    labels = drawn.figure.axes[1].get_yticklabels() + drawn.figure.axes[1].get_xticklabels()
    for text in (*drawn.figure.texts, *labels):
        extent = text.get_window_extent()
        assert box.x0 <= extent.x0
        assert extent.x1 <= box.x1


@pytest.mark.parametrize(
    "name", ["Donaudampfschifffahrtsgesellschaft" * 3, "many words of a long name " * 5, "wave"]
)
def test_names_of_bars_stay_between_the_bodies_and_the_bars(name):
    clip, probabilities = stream()
    drawn = scene(clip, probabilities, [f"{number} {name}" for number in range(10)])
    drawn.figure.canvas.draw()
    body, bars = drawn.figure.axes
    for number, label in zip(drawn.shown, bars.get_yticklabels(), strict=True):
        assert label.get_text().startswith(f"{number} ")
        assert body.get_window_extent().x1 < label.get_window_extent().x0
        assert label.get_window_extent().x1 < bars.get_window_extent().x0


def test_undetected_joints_and_the_bones_to_them_are_not_shown():
    clip, probabilities = stream(people=1)
    clip[:] = clip.max() + 1
    clip[:, 4:8] = 0  # the left arm; one bone leads to it
    drawn = scene(clip, probabilities)
    drawn.show(8, "")
    ((bones, dots),) = drawn.people
    assert np.isfinite(np.ma.filled(dots.get_offsets(), np.nan)).all(1).sum() == 21
    whole = [s for s in bones.get_segments() if len(s) == 2 and np.isfinite(s).all()]
    assert len(whole) == sum(not {4, 5, 6, 7} & set(bone) for bone in NTU.bones)


def test_an_empty_recording_without_answers_is_drawn(tmp_path):
    empty = draw_film(
        np.zeros((3, 25, 3, 1)), np.full((3, 10), np.nan), CLASSES, NTU, tmp_path / "a.gif"
    )
    assert empty.stat().st_size > 1000


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"clip": np.zeros((4, 20, 3, 1))}, "25 joints of ntu-25"),
        ({"clip": np.zeros((0, 25, 3, 1))}, "expected"),
        ({"clip": np.zeros((4, 25, 3))}, r"\(4, 25, 3\)"),
        (
            {"probabilities": np.zeros((4, 9))},
            r"\(4, 9\), but 4 frames of 10 classes need \(4, 10\)",
        ),
        ({"path": "a.webm"}, r"\.gif or \.mp4"),
        ({"channels": "xyzc"}, "3 coordinates"),
    ],
)
def test_bad_input_is_one_clear_sentence(tmp_path, change, says):
    given = {
        "clip": np.ones((4, 25, 3, 1)),
        "probabilities": np.zeros((4, 10)),
        "path": "a.gif",
        **change,
    }
    path = tmp_path / given.pop("path")
    with pytest.raises(UserError, match=says):
        draw_film(given.pop("clip"), given.pop("probabilities"), CLASSES, NTU, path, **given)
    assert not list(tmp_path.iterdir())


def test_mp4_needs_ffmpeg(monkeypatch):
    from matplotlib.animation import FFMpegWriter

    monkeypatch.setattr(FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    with pytest.raises(UserError, match="ffmpeg is not installed"):
        check_film("a.mp4")
    check_film("a.GIF")


def test_a_stopped_film_and_an_unwritable_folder_leave_nothing(tmp_path):
    def stop(frames):
        yield frames[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_film(*stream(), CLASSES, NTU, tmp_path / "a.gif", progress=stop)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Cannot write the film .*a\.gif"):
        draw_film(*stream(), CLASSES, NTU, Path(tmp_path / "file" / "a.gif"))
