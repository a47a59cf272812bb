"""None"""

import numpy as np
import pytest

from slim_fast.data.readers import Options, open_source
from slim_fast.data.readers import stream as stream_module
from slim_fast.data.readers.ntu import ACTIONS
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology
from tests.data.npz_content import one_hot


@pytest.fixture
def tiny_chunks(monkeypatch) -> None:
    monkeypatch.setattr(stream_module, "CHUNK_BYTES", 5000)


@pytest.mark.usefixtures("tiny_chunks")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", "<f2"])
def test_train_test_npz(tmp_path, walkers, save, dtype) -> None:
    people = [walkers(12, people=2, seed=seed) for seed in range(7)]
    x = np.stack([p.transpose(0, 3, 1, 2).reshape(12, 150) for p in people]).astype(dtype)
    path = tmp_path / "NTU60_CS.npz"
    save(
        path,
        x_train=x[:4],
        y_train=one_hot([0, 59, 3, 3], 60),
        x_test=x[4:],
        y_test=one_hot([7, 8, 9], 60),
    )
    source = open_source(path)
    clips = list(source.clips)
    assert (source.num_clips, source.channels, source.topology.name) == (7, "xyz", "ntu-25")
    assert source.classes == ACTIONS[:60]
    assert [clip.label for clip in clips] == [0, 59, 3, 3, 7, 8, 9]
    assert [clip.split["ntu60-xsub"] for clip in clips] == ["train"] * 4 + ["test"] * 3
    assert len({clip.name for clip in clips}) == 7
    for clip, expected in zip(clips, people, strict=True):
        np.testing.assert_array_equal(clip.positions, expected.astype(dtype))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (one_hot([0, 1], 3), "one row for each of the 3 clips"),
        (np.zeros((3, 4)), "not one-hot: row 0 has 0 classes set"),
        (np.array([[1, 0], [0, 1], [1, 1]]), "not one-hot: row 2 has 2 classes set"),
        (np.array([0.5, 1, 2]), "whole numbers"),
        (np.array([0, 1, -3]), "whole numbers"),
        (np.array([{}, {}, {}]), "Python objects, which could run code"),
        (np.array([0, np.nan, 1]), "whole numbers"),
        (np.array([0j, 1j, 2j]), "type complex128"),
        (np.array(["2020", "2021", "2022"], "M8[Y]"), "type datetime64"),
        (np.full((3, 2), "a"), "type <U1"),
    ],
)
def test_wrong_labels(tmp_path, y, message) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.ones((3, 4, 75)), y_train=y)
    with pytest.raises(UserError, match=message):
        open_source(tmp_path / "a.npz")


def test_integer_labels_and_none(tmp_path) -> None:
    np.savez(
        tmp_path / "a.npz",
        x_train=np.ones((3, 4, 75)),
        y_train=np.array([2, 0, 1]),
        x_val=np.ones((1, 4, 75)),
    )
    source = open_source(tmp_path / "a.npz")
    assert [(clip.label, dict(clip.split)) for clip in source.clips] == [
        (2, {"default": "train"}),
        (0, {"default": "train"}),
        (1, {"default": "train"}),
        (-1, {"default": "test"}),
    ]
    assert source.classes == ("0", "1", "2")


def test_other_skeletons_in_the_train_test_layout(tmp_path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.arange(2 * 4 * 120.0).reshape(2, 4, 120))
    with pytest.raises(UserError, match=r"120 values a frame.*--topology"):
        open_source(tmp_path / "a.npz")
    with pytest.raises(UserError, match="no multiple of the 17 joints x 3 channels"):
        open_source(tmp_path / "a.npz", Options(get_topology("coco-17")))
    clip = next(iter(open_source(tmp_path / "a.npz", Options(get_topology("kinect-v1-20"))).clips))
    assert clip.positions.shape == (4, 20, 3, 2)
    assert clip.positions[1, 2, 0, 1] == 120 + 60 + 6  # frame 1, person 1, joint 2


@pytest.mark.usefixtures("tiny_chunks")
@pytest.mark.parametrize("order", ["in order", "shuffled"])
@pytest.mark.parametrize("gaps", [0, 40])
def test_frames_npz(tmp_path, walkers, order, gaps) -> None:
    lengths = np.array([3, 0, 41, 1, 90, 7])
    start = np.cumsum(lengths + gaps) - lengths
    x = walkers(int(start[-1] + lengths[-1] + gaps), 20)
    numbers = np.random.default_rng(0).permutation(6) if order == "shuffled" else np.arange(6)
    np.savez_compressed(
        tmp_path / "utd_mhad_new.npz",
        x=x.astype(np.float16),
        start=start[numbers],
        length=lengths[numbers],
        label=numbers,
        subject=numbers,
        name=numbers.astype(str),
    )
    source = open_source(tmp_path / "utd_mhad_new.npz")
    clips = list(source.clips)
    assert (source.topology.name, source.num_clips, len(source.classes)) == ("utd-mhad-20", 6, 27)
    assert [(clip.name, clip.label, clip.subject) for clip in clips] == [
        (str(i), i, i) for i in range(6)
    ]
    assert [clip.split["xsub"] for clip in clips] == ["test", "train"] * 3
    for clip in clips:
        first = start[clip.label]
        np.testing.assert_array_equal(
            clip.positions, x[first : first + lengths[clip.label]].astype(np.float16)
        )


def test_frames_npz_of_an_unnamed_skeleton_needs_a_topology(tmp_path, walkers) -> None:
    np.savez(tmp_path / "mine.npz", x=walkers(9, 20), start=np.array([0]), length=np.array([9]))
    with pytest.raises(
        UserError, match=r"20 joints of 3 coordinates.*kinect-v1-20 or utd-mhad-20 would fit"
    ):
        open_source(tmp_path / "mine.npz")
    source = open_source(tmp_path / "mine.npz", Options(get_topology("kinect-v1-20")))
    assert [(clip.label, clip.subject, dict(clip.split)) for clip in source.clips] == [(-1, -1, {})]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": [5, 5]}, "overlap or leave its 9 frames"),
        ({"start": [0, 8]}, "overlap or leave"),
        ({"start": [-1, 4]}, "overlap or leave"),
        ({"length": [4, 5, 1]}, r"'length' in .* has shape \(3,\) .* each of the 2 clips"),
        ({"label": [1]}, "'label' in .* one whole number for each of the 2 clips"),
        ({"label": [0.5, 1]}, "one whole number for each"),
        ({"x": [1, 2]}, r"has shape \(2,\)"),
    ],
)
def test_inconsistent_frames_npz(tmp_path, walkers, changes, message) -> None:
    arrays = {"x": walkers(9, 25), "start": [0, 4], "length": [4, 5], "label": [0, 1]} | changes
    np.savez(tmp_path / "a.npz", **{name: np.array(value) for name, value in arrays.items()})
    with pytest.raises(UserError, match=message):
        open_source(tmp_path / "a.npz")


def test_npz_of_single_clips(tmp_path, walkers) -> None:
    clips = {"jump": walkers(5), "wave": walkers(1, people=2), "nothing": walkers(0)}
    clips["wave"] = clips["wave"][..., 0]  # (T, V, C): one person
    np.savez(
        tmp_path / "a.npz",
        **clips,
        labels=np.array(["up", "hand", "up"]),
        split=np.array(["train", "test", "test"]),
    )
    source = open_source(tmp_path / "a.npz")
    found = {clip.name: clip for clip in source.clips}
    assert source.classes == ("hand", "up")
    assert {name: clip.label for name, clip in found.items()} == {
        "jump": 1,
        "wave": 0,
        "nothing": 1,
    }
    assert found["wave"].split == {"default": "test"}
    np.testing.assert_array_equal(found["jump"].positions, clips["jump"])
    np.testing.assert_array_equal(found["wave"].positions, clips["wave"][..., None])


@pytest.mark.usefixtures("tiny_chunks")
def test_npz_of_clips_together(tmp_path, walkers) -> None:
    clips = np.stack([walkers(6, 17, 2, seed=seed)[..., 0] for seed in range(40)])
    lengths = np.arange(40) % 7
    np.savez(
        tmp_path / "a.npz",
        clips=clips,
        lengths=lengths,
        labels=np.arange(40),
        subjects=np.arange(40) + 100,
    )
    source = open_source(tmp_path / "a.npz")
    assert (source.topology.name, source.channels) == ("coco-17", "xy")
    for i, clip in enumerate(source.clips):
        np.testing.assert_array_equal(clip.positions[..., 0], clips[i, : lengths[i]])
        assert (clip.label, clip.subject) == (i, i + 100)
    np.savez(tmp_path / "b.npz", clips=walkers(6, 20)[None])
    with pytest.raises(UserError, match="20 joints"):
        open_source(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "holds no array of clips"),
        ({"labels": np.arange(3)}, "holds no array of clips"),
        ({"a": np.array([{"x": 1}], object)}, "Python objects, which could run code"),
        ({"a": np.ones(3)}, r"has shape \(3,\)"),
        ({"a": np.float32(1)}, r"has shape \(\)"),
        ({"a": np.ones((2, 25, 7))}, "7 channels"),
        ({"a": np.ones((2, 25, 3)), "labels": np.arange(2)}, "for each of the 1 clips"),
        ({"clips": np.ones((2, 4, 25, 3)), "lengths": np.array([1, -1])}, "negative"),
        ({"a": np.zeros((2, 25, 3), [("x", "f4"), ("y", "f4")])}, "structured"),
        ({"a": np.asfortranarray(np.ones((2, 25, 3)))}, "Fortran order"),
    ],
)
def test_npz_that_are_no_clips(tmp_path, arrays, message) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=message):
        list(open_source(tmp_path / "a.npz").clips)
