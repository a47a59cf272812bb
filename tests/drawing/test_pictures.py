"""Every picture: whole, legible, and without matplotlib's global state."""

import subprocess
import sys

import numpy as np
import pytest

from slim_fast import drawing
from slim_fast.errors import UserError
from tests.drawing.conftest import NTU, RECORDS, clip

pytest.importorskip("matplotlib")


def draw_all(folder):
    view = clip(frames=16)[..., 0]
    mask = np.random.default_rng(0).random((2, 25)) < 0.5
    features, labels = np.random.default_rng(0).normal(size=(40, 6)), np.arange(40) % 4
    return [
        drawing.contact_sheet(
            [clip(people=2), clip(frames=1)], NTU, ["two people", "short"], folder / "a.png"
        ),
        drawing.draw_views(
            [view, view[:8]], [mask, None], NTU, ["masked", "free"], folder / "b.png"
        ),
        drawing.draw_curves(RECORDS, folder / "c.png", prototypes=128),
        drawing.draw_knn(
            [0, 10], [0.2, 0.5], {"random encoder": 0.3, "raw coordinates": 0.3}, folder / "d.png"
        ),
        drawing.draw_embedding(features, labels, list("abcd"), folder / "e.png", method="pca"),
    ]


def test_every_function_writes_one_picture_and_returns_its_path(tmp_path):
    paths = draw_all(tmp_path / "new" / "folder")
    assert sorted(paths) == sorted((tmp_path / "new" / "folder").iterdir())
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_no_text_is_cut_off_or_runs_into_another(tmp_path, figures):
    long = "a_rather_long_clip_name_S001C001P001R001A050, class number 50"
    drawing.contact_sheet(
        [clip(people=2)] * 3, NTU, [long, f"first\n{long}", "W" * 99], tmp_path / "a.png"
    )
    views = [clip(frames=f)[..., 0] for f in (64, 32, 32, 8, 8)]
    drawing.draw_views(
        views,
        [None] * 5,
        NTU,
        ["local, 8 frames\n50% masked, height zeroed"] * 5,
        tmp_path / "b.png",
    )
    drawing.draw_curves(RECORDS[:2], tmp_path / "c.png", prototypes=65536)
    drawing.draw_knn(
        [0], [0.5], {"a rather long reference": 0.5, "x": 0.499, "y": 0.502}, tmp_path / "d.png"
    )
    names = [f"WIDE CLASS NAME {i} with more and more words" for i in range(60)]
    features = np.random.default_rng(0).normal(size=(60, 3))
    drawing.draw_embedding(features, np.arange(60), names, tmp_path / "e.png", method="pca")
    for figure in figures:
        figure.draw_without_rendering()
        boxes = [box for axes in figure.axes for box in text_boxes(axes)]
        for number, (box, text) in enumerate(boxes):
            assert min(box.x0, box.y0) >= -1, text
            assert max(box.x1 - figure.bbox.x1, box.y1 - figure.bbox.y1) <= 1, text
            for other, neighbour in boxes[:number]:
                apart = max(
                    box.x0 - other.x1, other.x0 - box.x1, box.y0 - other.y1, other.y0 - box.y1
                )
                assert apart >= -1, f"{text!r} over {neighbour!r}"


def text_boxes(axes):
    """(box, text) of everything written in and around one pair of axes; an axis with its ticks is
    one.
    """
    legend = axes.get_legend()
    texts = [axes.title, axes._left_title, *axes.texts, *(legend.get_texts() if legend else [])]
    boxes = [(text.get_window_extent(), text.get_text()) for text in texts if text.get_text()]
    ticked = [
        axis
        for axis in (axes.xaxis, axes.yaxis)
        if axes.axison and axis.get_tightbbox() is not None
    ]
    return boxes + [(axis.get_tightbbox(), axis.axis_name) for axis in ticked]


def test_pyplot_is_never_loaded_and_matplotlib_only_for_drawing(tmp_path):
    code = (
        "import sys, slim_fast.drawing as d; assert 'matplotlib' not in sys.modules;"
        f"d.draw_knn([0, 1], [.1, .2], {{}}, {str(tmp_path / 'a.png')!r});"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_the_remedy_is_named(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="pip install matplotlib"):
        drawing.draw_knn([0], [0.1], {}, tmp_path / "a.png")


def test_a_failed_picture_leaves_the_old_one_alone(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    path = tmp_path / "a.png"
    path.write_text("old")

    def full_disk(self, target, **kwargs):
        with open(target, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full_disk)
    with pytest.raises(UserError, match="No space left"):
        drawing.draw_knn([0], [0.1], {}, path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda p: drawing.contact_sheet([], NTU, [], p / "a.png"), "no clips"),
        (
            lambda p: drawing.contact_sheet([clip()], NTU, ["a", "b"], p / "a.png"),
            "1 clips to draw but 2 titles",
        ),
        (
            lambda p: drawing.contact_sheet([clip()[:, :20]], NTU, ["a"], p / "a.png"),
            "25 joints of ntu-25",
        ),
        (
            lambda p: drawing.contact_sheet([clip()[:0]], NTU, ["a"], p / "a.png"),
            "Cannot draw clip 'a'",
        ),
        (
            lambda p: drawing.contact_sheet([clip()], NTU, ["a"], p / "a.png", channels="xyzc"),
            "3 coordinates",
        ),
        (lambda p: drawing.contact_sheet([clip()], NTU, ["a"], p / "a.docx"), "endings"),
        (
            lambda p: drawing.contact_sheet([clip()] * 400, NTU, ["a"] * 400, p / "a.png"),
            "fewer rows",
        ),
        (
            lambda p: drawing.draw_views([clip()[:7, ..., 0]], [None], NTU, ["a"], p / "a.png"),
            "at least 8 frames",
        ),
        (
            lambda p: drawing.draw_views(
                [clip()[..., 0]], [np.ones((3, 25))], NTU, ["a"], p / "a.png"
            ),
            r"\(2, 25\)",
        ),
        (lambda p: drawing.draw_curves([{"step": 1}], p / "a.png"), "none of the numbers"),
        (lambda p: drawing.draw_knn([1], [40.0], {}, p / "a.png"), "between 0 and 1"),
        (lambda p: drawing.draw_knn([1, 2], [0.4], {}, p / "a.png"), "one for each"),
        (
            lambda p: drawing.draw_embedding(np.ones((4, 2)), [0, 1, 2, 3], ["a"], p / "a.png"),
            "outside -1 .. 0",
        ),
        (
            lambda p: drawing.draw_embedding(np.full((4, 2), np.nan), [0] * 4, ["a"], p / "a.png"),
            "NaN",
        ),
        (
            lambda p: drawing.draw_embedding(np.ones((4, 2)), [0], ["a"], p / "a.png"),
            "labels of shape",
        ),
        (
            lambda p: drawing.draw_embedding(np.ones((4, 2)), [0] * 4, ["a"], p / "a.png", "umap"),
            "umap",
        ),
    ],
)
def test_bad_input_is_one_clear_sentence(call, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        call(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Cannot write the picture .*a\.png"):
        drawing.draw_knn([0], [0.1], {}, tmp_path / "file" / "a.png")
