"""Labels, subjects, splits and units of npz files, by the names that people give them."""

import numpy as np
import pytest

from slim_fast.data.convert import convert
from slim_fast.data.readers import Options, open_source
from slim_fast.data.readers.source import find_standard_split
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology
from tests.data.npz_content import one_hot

COLUMNS = {
    "labels": [0, 1, 0, 1],
    "subjects": [1, 2, 3, 4],
    "split": ["train", "test"] * 2,
    "lengths": [12] * 4,
}


@pytest.mark.parametrize(
    "names",
    [
        ("labels", "subjects", "split", "lengths"),
        ("label", "subject", "splits", "length"),
        ("y", "performer", "Set", "num_frames"),
    ],
)
def test_columns_go_by_their_usual_names(tmp_path, walkers, names) -> None:
    clips = np.stack([walkers(20, seed=seed)[..., 0] for seed in range(4)])
    columns = {name: np.array(values) for name, values in zip(names, COLUMNS.values(), strict=True)}
    np.savez(
        tmp_path / "a.npz",
        clips=clips,
        camera=[1, 2, 3, 1],
        name=np.array(["a", "b", "c", "d"], "S1"),
        **columns,
    )
    source = open_source(tmp_path / "a.npz")
    read = list(source.clips)
    assert [
        (c.label, c.subject, c.camera, c.split["default"], len(c.positions), c.name) for c in read
    ] == [
        (0, 1, 1, "train", 12, "a"),
        (1, 2, 2, "test", 12, "b"),
        (0, 3, 3, "train", 12, "c"),
        (1, 4, 1, "test", 12, "d"),
    ]
    assert source.warnings == []


def test_a_member_that_is_not_known_is_named(tmp_path, walkers) -> None:
    clips, extra = np.stack([walkers(9)[..., 0]] * 2), {"fps": np.float32(30), "wieght": np.ones(2)}
    np.savez(tmp_path / "a.npz", clips=clips, **extra)
    np.savez(tmp_path / "b.npz", x=walkers(9), start=[0, 4], length=[4, 5], **extra)
    np.savez(tmp_path / "c.npz", x_train=np.ones((2, 4, 75)), y_train=[0, 1], **extra)
    for name in "abc":
        (warning,) = open_source(tmp_path / f"{name}.npz").warnings
        assert "fps, wieght" in warning
        done = convert(tmp_path / f"{name}.npz", tmp_path / name)
        assert any("fps, wieght" in warning for warning in done.warnings)


def test_two_members_of_one_meaning_and_sides_of_no_split_are_refused(tmp_path, walkers) -> None:
    clips = np.stack([walkers(9)[..., 0]] * 2)
    for columns, message in (
        ({"label": [0, 1], "labels": [0, 1]}, "'label' and 'labels' .* mean the same"),
        ({"split": ["train", "left"]}, "'left' .* is no subset of a split"),
        ({"split": [0, 1]}, "one word for each"),
    ):
        np.savez(
            tmp_path / "a.npz",
            clips=clips,
            **{name: np.array(values) for name, values in columns.items()},
        )
        with pytest.raises(UserError, match=message):
            open_source(tmp_path / "a.npz")


@pytest.mark.parametrize("kind", ["U", "S"])
def test_words_and_bytes_name_classes(tmp_path, kind) -> None:
    x = np.ones((3, 4, 75))
    np.savez(
        tmp_path / "a.npz",
        x_train=x,
        y_train=np.array(["wave", "clap", "wave"], kind),
        x_test=x[:1],
        y_test=np.array(["bow"], kind),
    )
    source = open_source(tmp_path / "a.npz")
    assert source.classes == ("bow", "clap", "wave")
    assert [clip.label for clip in source.clips] == [2, 1, 2, 0]
    np.savez(
        tmp_path / "b.npz",
        x_train=x,
        y_train=np.array(["wave", "clap", "wave"], kind),
        x_test=x[:1],
        y_test=[0],
    )
    with pytest.raises(UserError, match="words in one subset and by numbers in the other"):
        open_source(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", clips=np.ones((2, 4, 25, 3)), y=np.array(["b", "a"], kind))
    assert open_source(tmp_path / "c.npz", Options(get_topology("ntu-25"))).classes == ("a", "b")


def test_labels_from_one_are_noticed_and_shifted_when_told(tmp_path, walkers) -> None:
    np.savez(tmp_path / "a.npz", clips=np.stack([walkers(9)[..., 0]] * 4), labels=[1, 3, -1, 2])
    plain = convert(tmp_path / "a.npz", tmp_path / "a")
    assert any("--labels-from 1" in warning for warning in plain.warnings)
    assert plain.cache.label.tolist() == [1, 3, -1, 2]  # never changed in silence
    told = convert(tmp_path / "a.npz", tmp_path / "b", Options(labels_from=1))
    assert told.cache.label.tolist() == [0, 2, -1, 1]
    assert told.cache.classes == ("1", "2", "3")
    assert told.warnings == []
    with pytest.raises(UserError, match=r"label 1, outside 2\.\."):
        convert(tmp_path / "a.npz", tmp_path / "c", Options(labels_from=2))
    np.savez(
        tmp_path / "utd_mhad.npz",
        x=np.ones((4, 20, 3, 1)),
        start=[0, 2],
        length=[2, 2],
        label=[1, 27],
    )
    with pytest.raises(UserError, match=r"label 27, outside 0\.\.26 .*--labels-from 1"):
        convert(tmp_path / "utd_mhad.npz", tmp_path / "c")
    known = convert(tmp_path / "utd_mhad.npz", tmp_path / "c", Options(labels_from=1)).cache
    assert known.classes[known.label[1]] == "squat"


@pytest.mark.parametrize(
    ("factor", "channels", "said"),
    [(1000, "xyz", "millimetres"), (100, "xyz", "centimetres"), (500, "xyc", "pixels")],
)
def test_other_units_are_noticed_and_scaled_when_told(
    tmp_path, walkers, factor, channels, said
) -> None:
    clips = np.stack([walkers(9, 25 if channels == "xyz" else 17)[..., 0]] * 2)
    wrong = clips * np.float32([factor, factor, factor if channels == "xyz" else 1])
    skeleton = get_topology("ntu-25" if channels == "xyz" else "coco-17")
    for name, values in (("right", clips), ("wrong", wrong)):
        np.savez(tmp_path / f"{name}.npz", clips=values)
    right = convert(tmp_path / "right.npz", tmp_path / "right", Options(skeleton, channels))
    assert right.warnings == []
    (warning,) = convert(
        tmp_path / "wrong.npz", tmp_path / "wrong", Options(skeleton, channels)
    ).warnings
    assert said in warning
    assert "--scale" in warning
    mended = convert(
        tmp_path / "wrong.npz", tmp_path / "mended", Options(skeleton, channels, scale=1 / factor)
    )
    assert mended.warnings == []
    np.testing.assert_allclose(mended.cache.positions, right.cache.positions, rtol=1e-5)
    with pytest.raises(UserError, match="--scale 0"):
        convert(tmp_path / "wrong.npz", tmp_path / "none", Options(skeleton, channels, scale=0))


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("NTU60_CS", "ntu60-xsub"),
        ("NTU60_XSub", "ntu60-xsub"),
        ("NTU-60_xsub", "ntu60-xsub"),
        ("ntu/xsub", "ntu60-xsub"),
        ("NTU60_CV", "ntu60-xview"),
        ("NTU60_XView", "ntu60-xview"),
        ("nturgb+d-cross-view", "ntu60-xview"),
        ("NTU120_CSub", "ntu120-xsub"),
        ("NTU120_CSet", "ntu120-xset"),
        ("ntu120_xset", "ntu120-xset"),
        ("NTU_120_CrossSetup", "ntu120-xset"),
        ("pku_xsub", "xsub"),
        ("mine", None),
        ("obscvre_csv", None),
    ],
)
def test_names_of_splits(name, split) -> None:
    assert find_standard_split(name) == split


@pytest.mark.parametrize("sides", [("training", "Valid"), ("trn", "dev"), ("Train", "tst")])
def test_sides_by_their_usual_names(tmp_path, sides) -> None:
    x = {f"x_{side}": np.ones((2, 4, 75)) for side in sides}
    np.savez(tmp_path / "a.npz", **x, **{f"y_{side}": np.array([0, 1]) for side in sides})
    source = open_source(tmp_path / "a.npz")
    assert [(clip.label, clip.split["default"]) for clip in source.clips] == [
        (label, side) for side in ("train", "test") for label in (0, 1)
    ]
    assert source.warnings == []


def test_validation_beside_a_test_side_is_on_neither(tmp_path, walkers) -> None:
    np.savez(
        tmp_path / "a.npz",
        **{f"x_{side}": np.ones((1, 4, 75)) for side in ("train", "val", "test")},
    )
    clips = {clip.name: dict(clip.split) for clip in open_source(tmp_path / "a.npz").clips}
    assert clips == {
        "train000000": {"default": "train"},
        "val000000": {},
        "test000000": {"default": "test"},
    }
    words = np.array(["train", "val", "test"])
    np.savez(tmp_path / "b.npz", clips=np.stack([walkers()[..., 0]] * 3), split=words)
    source = open_source(tmp_path / "b.npz", Options(get_topology("ntu-25")))
    assert [dict(clip.split) for clip in source.clips] == [
        {"default": "train"},
        {},
        {"default": "test"},
    ]


def test_whole_numbers_may_be_stored_as_floats(tmp_path, walkers) -> None:
    columns = {"labels": [1.0, 0.0], "lengths": [4.0, 9.0], "subjects": np.array([7, 8], np.uint64)}
    np.savez(tmp_path / "a.npz", clips=np.stack([walkers()[..., 0]] * 2), **columns)
    clips = list(open_source(tmp_path / "a.npz", Options(get_topology("ntu-25"))).clips)
    assert [(clip.label, len(clip.positions), clip.subject) for clip in clips] == [
        (1, 4, 7),
        (0, 9, 8),
    ]
    np.savez(tmp_path / "a.npz", clips=np.stack([walkers()[..., 0]] * 2), labels=[0.5, 1.0])
    with pytest.raises(UserError, match=r"'labels' .* one whole number for each of the 2 clips"):
        open_source(tmp_path / "a.npz", Options(get_topology("ntu-25")))


@pytest.mark.parametrize(
    ("start", "length"), [([2**62], [2**62]), ([2**62, 0], [2**62, 4]), ([0, 2**63 - 1], [4, 4])]
)
def test_ends_beyond_all_numbers_are_no_frames(tmp_path, walkers, start, length) -> None:
    np.savez(tmp_path / "ntu.npz", x=walkers(9), start=np.array(start), length=np.array(length))
    with pytest.raises(UserError, match="overlap or leave its 9 frames"):
        open_source(tmp_path / "ntu.npz")


def test_classes_without_clips_keep_their_number(tmp_path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.ones((2, 9, 75)), y_train=one_hot([0, 1], 4))
    assert convert(tmp_path / "a.npz", tmp_path / "c").cache.classes == ("0", "1", "2", "3")
