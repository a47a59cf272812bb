"""Pictures: every function draws what it was given, whole, legible, and without matplotlib's global state."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from slim_fast import drawing
from slim_fast.drawing import curves, embedding, sheet, style
from slim_fast.drawing.poses import ELEVATION, project
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology, topology_names

pytest.importorskip("matplotlib")
NTU = get_topology("ntu-25")
RECORDS = [{"step": s, "loss": 9 - s / 10, "contrastive": 5 - s / 20, "learning_rate": 1e-4} for s in range(30)]


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved, still open to look at."""
    saved = []
    save = style.save

    def remember(figure, path):
        saved.append(figure)
        return save(figure, path)

    monkeypatch.setattr(style, "save", remember)
    return saved


def clip(topology=NTU, frames=20, channels=3, people=1, seed=0):
    return np.random.default_rng(seed).normal(1, 0.5, (frames, topology.num_joints, channels, people)).astype("f")


def draw_all(folder):
    view = clip(frames=16)[..., 0]
    mask = np.random.default_rng(0).random((2, 25)) < 0.5
    features, labels = np.random.default_rng(0).normal(size=(40, 6)), np.arange(40) % 4
    return [
        drawing.contact_sheet([clip(people=2), clip(frames=1)], NTU, ["two people", "short"], folder / "a.png"),
        drawing.draw_views([view, view[:8]], [mask, None], NTU, ["masked", "free"], folder / "b.png"),
        drawing.draw_curves(RECORDS, folder / "c.png", prototypes=128),
        drawing.draw_knn([0, 10], [0.2, 0.5], {"random encoder": 0.3, "raw coordinates": 0.3}, folder / "d.png"),
        drawing.draw_embedding(features, labels, list("abcd"), folder / "e.png", method="pca"),
    ]


def test_every_function_writes_one_picture_and_returns_its_path(tmp_path):
    paths = draw_all(tmp_path / "new" / "folder")
    assert sorted(paths) == sorted((tmp_path / "new" / "folder").iterdir())
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_no_text_is_cut_off_or_runs_into_another(tmp_path, figures):
    long = "a_rather_long_clip_name_S001C001P001R001A050, class number 50"
    drawing.contact_sheet([clip(people=2)] * 3, NTU, [long, "first\nsecond line", long.upper()], tmp_path / "a.png")
    views = [clip(frames=f)[..., 0] for f in (64, 32, 32, 8, 8)]
    drawing.draw_views(views, [None] * 5, NTU, ["local, 8 frames, 50% masked"] * 5, tmp_path / "b.png")
    drawing.draw_curves(RECORDS[:2], tmp_path / "c.png", prototypes=65536)
    drawing.draw_knn([0], [0.5], {"a rather long reference": 0.5, "x": 0.499, "y": 0.502}, tmp_path / "d.png")
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
                apart = max(box.x0 - other.x1, other.x0 - box.x1, box.y0 - other.y1, other.y0 - box.y1)
                assert apart >= -1, f"{text!r} over {neighbour!r}"


def text_boxes(axes):
    """(box, text) of everything written in and around one pair of axes; an axis with its ticks is one."""
    legend = axes.get_legend()
    texts = [axes.title, axes._left_title, *axes.texts, *(legend.get_texts() if legend else [])]
    boxes = [(text.get_window_extent(), text.get_text()) for text in texts if text.get_text()]
    ticked = [axis for axis in (axes.xaxis, axes.yaxis) if axes.axison and axis.get_tightbbox() is not None]
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


@pytest.mark.parametrize("up", ["y", "-y", "z", "-z"])
def test_one_pose_looks_the_same_in_every_coordinate_system(up):
    pose = clip()[0, :, :, 0].astype(np.float64)  # x right, y up, z towards the viewer
    x, y, z = pose.T
    turned = {"y": (x, y, z), "-y": (x, -y, -z), "z": (x, -z, y), "-z": (x, z, -y)}[up]
    seen = project(np.stack(turned, axis=-1), replace(NTU, up=up))
    np.testing.assert_allclose(seen, project(pose, NTU), atol=1e-12)
    higher = project(pose + np.array([0, 1, 0]), NTU) - project(pose, NTU)
    np.testing.assert_allclose(higher, np.broadcast_to([0, math.cos(ELEVATION)], higher.shape), atol=1e-12)


def test_planar_coordinates_are_drawn_as_they_are():
    pose = clip(channels=2)[0, :, :, 0]
    np.testing.assert_allclose(project(pose, NTU), pose, rtol=1e-6)
    np.testing.assert_allclose(project(pose, replace(NTU, up="-y")), pose * [1, -1], rtol=1e-6)
    with_confidence = np.concatenate([pose, np.ones((25, 1))], axis=-1)
    np.testing.assert_allclose(project(with_confidence, NTU, "xyc"), pose, rtol=1e-6)


def test_absent_people_and_unseen_joints_are_left_out():
    poses = clip(people=2)[:3].transpose(0, 3, 1, 2).copy()
    poses[1, 1] = 0
    poses[2, 0, 7, 1] = np.nan
    gone = np.isnan(project(poses, NTU)).any(-1)
    assert gone[1, 1].all()
    assert np.argwhere(gone[[0, 2]]).tolist() == [[1, 0, 7]]
    confident = np.concatenate([clip()[..., 0], np.ones((20, 25, 1))], axis=-1)
    confident[3, 4, 3] = 0
    assert np.argwhere(np.isnan(project(confident, NTU, "xyzc")).any(-1)).tolist() == [[3, 4]]


def test_nothing_drawable_still_makes_a_picture(tmp_path):
    assert drawing.contact_sheet([np.zeros((4, 25, 3, 2))], NTU, ["empty"], tmp_path / "a.png").exists()
    assert drawing.contact_sheet([np.full((4, 25, 3), np.nan)], NTU, ["nan"], tmp_path / "b.png").exists()


@pytest.mark.parametrize("name", topology_names())
def test_figures_have_two_equal_sides_and_a_bone_less_than_joints(name):
    topology = get_topology(name)
    sides = sheet.joint_sides(topology)
    assert sides.count("left") == sides.count("right") > 0
    assert all((sides[j] == "trunk") == (topology.mirror[j] == j) for j in range(topology.num_joints))
    ink = sheet._Ink(sides, topology.bones)
    ink.figure(clip(topology)[0, :, :2, 0], np.zeros(topology.num_joints, bool), 0)
    assert len(ink.lines) == topology.num_joints - 1
    assert sum(map(len, ink.dots.values())) == topology.num_joints


def test_masked_joints_are_hollow_and_their_bones_pale():
    masked = np.zeros(25, bool)
    masked[[10, 11]] = True  # right wrist and hand: bones elbow-wrist, wrist-hand, hand-tip, hand-thumb
    ink = sheet._Ink(sheet.joint_sides(NTU), NTU.bones)
    joints = clip()[0, :, :2, 0]
    ink.figure(joints, masked, 0)
    np.testing.assert_array_equal(ink.dots["white", style.FAINT], joints[[10, 11]])
    assert sum(colour == style.PALE for _, colour, _ in ink.lines) == 4


def test_all_poses_stay_inside_their_cells():
    row = sheet.Row("", list(project(clip(frames=6, people=2).transpose(0, 3, 1, 2), NTU)), [""] * 6)
    scale = sheet._scale(row)
    spans = np.stack(row.poses)
    assert scale * max(np.ptp(pose[..., 0]) for pose in row.poses) <= sheet.CELL_WIDTH
    assert scale * np.ptp(spans[..., 1]) <= sheet.CELL_HEIGHT


@pytest.mark.parametrize("letters", [1, 5, 21])
def test_wrapping_loses_nothing_but_spaces(letters):
    title = "S001C001_P001 a long_name_with many\nparts and_a_verylongunbrokenpiece"
    lines = sheet._wrap(title, letters)
    assert max(map(len, lines)) <= letters
    assert "".join("".join(lines).split()) == "".join(title.split())
    assert sheet._wrap("hand_wave_x", 10) == ["hand_wave_", "x"]


def test_short_views_share_a_line(tmp_path, figures):
    views = [clip(frames=frames)[..., 0] for frames in (64, 32, 32)]
    drawing.draw_views(views, [None] * 3, NTU, list("abc"), tmp_path / "a.png")
    drawing.draw_views(views[:2], [None] * 2, NTU, list("ab"), tmp_path / "b.png")
    assert figures[0].get_size_inches().tolist() == figures[1].get_size_inches().tolist()


def test_reference_lines_are_at_log_k(tmp_path, figures):
    drawing.draw_curves(RECORDS, tmp_path / "a.png", prototypes=128)
    titles = [axes.get_title(loc="left") for axes in figures[0].axes]
    assert titles == ["Total loss", "Contrastive loss", "Learning rate"]
    assert len(figures[0].axes[0].lines) == 2
    assert figures[0].axes[1].lines[2].get_ydata()[0] == pytest.approx(math.log(128))
    assert figures[0].axes[1].get_ylim()[1] > math.log(128)


def test_curves_pass_over_what_is_not_there(tmp_path, figures):
    records = [{"step": 9, "loss": 1.0}, {"step": 3, "loss": 2.0}, {"step": 4, "loss": float("nan")}, {"step": 5}]
    drawing.draw_curves(records, tmp_path / "a.png")
    assert figures[0].axes[0].lines[0].get_xydata().tolist() == [[3, 2], [9, 1]]


def test_the_running_median_ignores_a_spike_and_follows_a_line():
    steps, values = np.arange(1000.0), np.arange(1000.0) * 2
    spiked = values.copy()
    spiked[500] = 1e9
    at, median = curves._running_median(steps, spiked)
    assert len(at) == 400
    np.testing.assert_allclose(median, 2 * at, atol=3)


def test_knn_lines_are_percentages_at_their_values(tmp_path, figures):
    drawing.draw_knn([0, 5], [0.25, 0.5], {"random": 0.3}, tmp_path / "a.png")
    learned, random = figures[0].axes[0].lines
    assert learned.get_ydata().tolist() == [25, 50]
    assert random.get_ydata()[0] == 30
    assert {text.get_text() for text in figures[0].axes[0].texts} == {"learned 50.0", "random 30.0"}


def test_labels_are_spread_no_further_than_needed():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.uniform(0, 100, 6)
        heights = np.array(curves._spread(values, 5, 0, 100))
        assert (np.diff(heights[np.argsort(values)]) >= 5 - 1e-9).all()
        assert 0 <= heights.min() <= heights.max() <= 100
    assert curves._spread([10, 50, 90], 5, 0, 100) == [10, 50, 90]
    assert curves._spread([50, 50], 4, 0, 100) == [48, 52]
    assert curves._spread([100, 100], 4, 0, 100) == [96, 100]


def test_numbers_are_short():
    assert [curves._number(x) for x in (0, 1.5e-4, 2e6, -3e-5)] == ["0", "1.5e-4", "2e6", "-3e-5"]


def test_pca_keeps_what_lies_in_a_plane():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(30, 2))
    features = flat @ np.linalg.qr(rng.normal(size=(5, 2)))[0].T + 7
    plane, name = embedding._flatten(features, "pca")
    distances = [np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (flat, plane)]
    np.testing.assert_allclose(*distances, atol=1e-10)
    assert name == "PCA, 100 % of the variance"
    assert np.var(plane[:, 0]) >= np.var(plane[:, 1])


@pytest.mark.parametrize("width", [1, 4])
def test_degenerate_features_are_drawn(width, tmp_path):
    same = np.ones((5, width))
    assert drawing.draw_embedding(same, [0, 0, 1, 1, -1], ["$a", "b$"], tmp_path / "a.png", method="pca").exists()


def test_tsne_is_said_in_the_title(tmp_path, figures):
    pytest.importorskip("sklearn")
    centres = np.repeat(np.eye(3) * 50, 20, axis=0)
    features = centres + np.random.default_rng(0).normal(size=(60, 3))
    points, name = embedding._flatten(features, "auto")
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.eye(60) * 1e9
    assert (distances.argmin(1) // 20 == np.arange(60) // 20).all()
    drawing.draw_embedding(features, np.arange(60) // 20, list("abc"), tmp_path / "a.png")
    assert name in figures[0].axes[0].get_title(loc="left")


def test_seventy_classes_look_different_and_the_unlabelled_come_last(tmp_path, figures):
    looks = {(look["facecolor"], look["marker"]) for look in map(embedding._look, range(70))}
    assert len(looks) == 70
    features = np.random.default_rng(0).normal(size=(6, 3))
    drawing.draw_embedding(features, [-1, 2, 0, 2, -1, 0], ["a", "b", "c"], tmp_path / "a.png", method="pca")
    legend = figures[0].axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["a", "c", "unlabelled"]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda p: drawing.contact_sheet([], NTU, [], p / "a.png"), "no clips"),
        (lambda p: drawing.contact_sheet([clip()], NTU, ["a", "b"], p / "a.png"), "1 clips to draw but 2 titles"),
        (lambda p: drawing.contact_sheet([clip()[:, :20]], NTU, ["a"], p / "a.png"), "25 joints of ntu-25"),
        (lambda p: drawing.contact_sheet([clip()[:0]], NTU, ["a"], p / "a.png"), "Cannot draw clip 'a'"),
        (lambda p: drawing.contact_sheet([clip()], NTU, ["a"], p / "a.png", channels="xyzc"), "3 coordinates"),
        (lambda p: drawing.contact_sheet([clip()], NTU, ["a"], p / "a.docx"), "endings"),
        (lambda p: drawing.contact_sheet([clip()] * 400, NTU, ["a"] * 400, p / "a.png"), "fewer rows"),
        (lambda p: drawing.draw_views([clip()[:7, ..., 0]], [None], NTU, ["a"], p / "a.png"), "at least 8 frames"),
        (lambda p: drawing.draw_views([clip()[..., 0]], [np.ones((3, 25))], NTU, ["a"], p / "a.png"), r"\(2, 25\)"),
        (lambda p: drawing.draw_curves([{"step": 1}], p / "a.png"), "none of the numbers"),
        (lambda p: drawing.draw_knn([1], [40.0], {}, p / "a.png"), "between 0 and 1"),
        (lambda p: drawing.draw_knn([1, 2], [0.4], {}, p / "a.png"), "one for each"),
        (lambda p: drawing.draw_embedding(np.ones((4, 2)), [0, 1, 2, 3], ["a"], p / "a.png"), "outside -1 .. 0"),
        (lambda p: drawing.draw_embedding(np.full((4, 2), np.nan), [0] * 4, ["a"], p / "a.png"), "NaN"),
        (lambda p: drawing.draw_embedding(np.ones((4, 2)), [0], ["a"], p / "a.png"), "labels of shape"),
        (lambda p: drawing.draw_embedding(np.ones((4, 2)), [0] * 4, ["a"], p / "a.png", "umap"), "umap"),
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
