"""None"""

import pickle

import numpy as np
import pytest

from slim_fast.data.cli import main
from slim_fast.data.clips import Clip, clean_clip
from slim_fast.data.readers import Options, open_source
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology
from tests.data.pyskl_files import save


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_ntu_in_three_dimensions(tmp_path, walkers, protocol) -> None:
    people = [walkers(6 + i, people=1 + i % 2, seed=i) for i in range(4)]
    names = [f"S001C00{i % 3 + 1}P00{i + 1}R001A00{i + 1}" for i in range(4)]
    annotations = [
        {
            "frame_dir": name,
            "label": np.int64(i) if i % 2 else i,
            "keypoint": clip.transpose(3, 0, 1, 2),
            "total_frames": len(clip) - 1,
        }
        for i, (name, clip) in enumerate(zip(names, people, strict=True))
    ]
    split = {
        "xsub_train": names[:2],
        "xsub_val": names[2:],
        "xview_train": [names[3]],
        "xview_val": [names[0]],
    }
    source = open_source(save(tmp_path / "ntu60_3danno.pkl", annotations, split, protocol))
    clips = list(source.clips)
    assert (source.topology.name, source.channels, source.num_clips) == ("ntu-25", "xyz", 4)
    for i, clip in enumerate(clips):
        np.testing.assert_array_equal(clip.positions, people[i][:-1])
        assert (clip.name, clip.label, clip.subject, clip.setup) == (names[i], i, i + 1, 1)
    assert clips[0].split == {"ntu60-xsub": "train", "ntu60-xview": "test"}
    assert clips[3].split == {"ntu60-xsub": "test", "ntu60-xview": "train"}
    assert clips[1].split == {"ntu60-xsub": "train"}


@pytest.mark.parametrize("topology", ["coco-17", "upwards"])
def test_pixels_are_centred_and_scaled_by_half_the_height(tmp_path, topology) -> None:
    coco = get_topology("coco-17")
    skeleton = (
        coco
        if topology == "coco-17"
        else type(coco).from_dict(coco.to_dict() | {"name": "up", "up": "y"})
    )
    pixels = np.zeros((2, 3, 17, 2), np.float16)  # (M, T, V, C)
    pixels[0, :, :] = [640, 360]  # the picture's centre
    pixels[0, 1, 3] = [1280, 0]  # its upper right corner
    pixels[0, 2, 5] = [0, 0]  # not detected
    pixels[1, 0, :] = [640, 720]  # the middle of the lower edge
    score = np.random.default_rng(0).uniform(size=(2, 3, 17)).astype(np.float16)
    path = save(
        tmp_path / "a.pkl",
        [
            {
                "frame_dir": "a",
                "label": 0,
                "keypoint": pixels,
                "keypoint_score": score,
                "img_shape": (720, 1280),
                "total_frames": 3,
            }
        ],
    )
    source = open_source(path, Options(None if topology == "coco-17" else skeleton))
    (clip,) = source.clips
    assert (source.topology, source.channels) == (skeleton, "xyc")
    np.testing.assert_array_equal(clip.positions[:, :, 2], score.transpose(1, 2, 0))
    # y values grow in the direction the topology's `up` tells
    up = -1 if topology == "coco-17" else 1
    np.testing.assert_allclose(clip.positions[1, 3, :2, 0], [16 / 9, up], rtol=1e-3)
    np.testing.assert_array_equal(clip.positions[2, 5, :2, 0], 0)
    np.testing.assert_array_equal(clip.positions[0, :, 0, 0], 0)
    np.testing.assert_array_equal(clip.positions[0, :, 1, 1], -up)
    np.testing.assert_array_equal(clip.positions[1:, :, :2, 1], 0)  # absent stays absent


def test_split_names(tmp_path, walkers) -> None:
    keypoint = walkers(2).transpose(3, 0, 1, 2)
    split = {
        "train": ["a", "b"],
        "val": ["c"],
        "test": ["b", "d"],
        "train1": ["a"],
        "test1": ["c"],
        "odd": ["a"],
    }
    annotations = [{"frame_dir": name, "label": 0, "keypoint": keypoint} for name in "abcd"]
    clips = {
        clip.name: clip.split
        for clip in open_source(save(tmp_path / "gym.pkl", annotations, split)).clips
    }
    assert clips == {
        "a": {"default": "train", "1": "train"},
        "b": {"default": "test"},
        "c": {"1": "test"},
        "d": {"default": "test"},
    }


SPLITS = {
    "other words": {"training": [0, 1, 2], "validation": [3, 4]},
    "capitals": {"Train": [0, 1, 2], "TEST": [3, 4]},
    "valid": {"train": [0, 1, 2], "valid": [3, 4]},
    "short": {"trn": [0, 1, 2], "tst": [3, 4]},
    "dev": {"train": [0, 1, 2], "dev": [3, 4]},
    "eval": {"train_set": [0, 1, 2], "eval_set": [3, 4]},
    "together": {"trainset": [0, 1, 2], "testset": [3, 4]},
    "both in one": {"train_val": [0, 1, 2], "test": [3, 4]},
}


def source_of(tmp_path, names, split, options=None):
    keypoint = np.random.default_rng(0).uniform(size=(1, 4, 17, 2)).astype(np.float32)
    annotations = [{"frame_dir": name, "label": 0, "keypoint": keypoint} for name in names]
    return open_source(save(tmp_path / "a.pkl", annotations, split), options)


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize(
    ("called", "listed"),
    [
        ("v{}", "v{}"),
        ("v{}", "v{}.mp4"),
        ("v{}", "V/v{}.AVI"),
        ("v{}.avi", "v{}"),
        ("v{}.avi", "v{}.skeleton"),
        ("frames/v{}", "v{}.mp4"),
        ("v{}", "C:\\clips\\v{}.mp4"),
        ("{}", "{}"),
        ("a.b/v{}.c", "v{}.c"),
        ("v{}", None),
    ],
)
def test_splits_by_other_words_and_names(tmp_path, split, called, listed) -> None:
    lists = {
        key: clips if listed is None else [listed.format(i) for i in clips]
        for key, clips in split.items()
    }
    source = source_of(tmp_path, [called.format(i) for i in range(5)], lists)
    assert [clip.split for clip in source.clips] == [
        {"default": side} for side in ["train"] * 3 + ["test"] * 2
    ]
    assert source.problems == []


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("xsub_train", "xsub"),
        ("Train_xsub", "xsub"),
        ("sub1train", "sub1"),
        ("train1", "1"),
        ("split_2-train", "2"),
        ("ntu60_xview_train", "ntu60-xview"),
    ],
)
def test_what_else_a_key_says_names_the_split(tmp_path, key, name) -> None:
    other = key.replace("train", "val").replace("Train", "VAL")
    source = source_of(tmp_path, ["a", "b"], {key: ["a"], other: np.array(["b"])})
    assert [clip.split for clip in source.clips] == [{name: "train"}, {name: "test"}]


def test_an_index_or_a_short_name_that_leaves_doubt_matches_nothing(tmp_path) -> None:
    for split in (
        {"train": [1], "val": [2]},
        {"train": [1, 2], "val": [3]},
        {"train": [0, 1], "val": [3]},
        {"train": [True], "val": [False]},
    ):
        with pytest.raises(
            UserError, match=r"split 'default' of which nothing matches.*'a', 'b', 'c'"
        ):
            source_of(tmp_path, "abc", split)
    source = source_of(tmp_path, ["2", "1", "0"], {"train": [0, 1], "val": [2]})  # names after all
    assert [clip.split["default"] for clip in source.clips] == ["test", "train", "train"]
    source = source_of(tmp_path, ["x/a", "y/a", "z/b"], {"train": ["x/a.mp4"], "val": ["a", "b"]})
    assert [clip.split for clip in source.clips] == [{"default": "train"}, {}, {"default": "test"}]
    assert [problem.reason for problem in source.problems] == [
        "1 of its 2 names belong to no clip, such as 'a'"
    ]
    # of which right/a is not there
    split = {"train": ["right/a", "video/b"], "val": ["video/right/c.avi"]}
    source = source_of(tmp_path, ["left/a", "b", "right/c"], split)
    assert [clip.split for clip in source.clips] == [{}, {"default": "train"}, {"default": "test"}]


def test_what_matches_nothing_is_told_and_skips_no_clip(tmp_path, capsys) -> None:
    split = {"train": ["a", "x", "y"], "val": ["b", "z"], "fold": ["a"]}
    source = source_of(tmp_path, "ab", split)
    assert [clip.split for clip in source.clips] == [{"default": "train"}, {"default": "test"}]
    assert main(["convert", str(tmp_path / "a.pkl"), str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines()[:3] == [
        "split 'fold': its name says neither train nor test (1 names)",
        "split 'train': 2 of its 3 names belong to no clip, such as 'x'",
        "split 'val': 1 of its 2 names belong to no clip, such as 'z'",
    ]
    assert "skipped" not in printed.out
    with pytest.raises(UserError, match="'fold', 'other', which say neither train nor test"):
        source_of(tmp_path, "ab", {"fold": ["a"], "other": ["b"]})
    with pytest.raises(UserError, match="split 'xsub' of which nothing matches"):
        source_of(
            tmp_path, "ab", {"train": ["a"], "val": ["b"], "xsub_train": ["x"], "xsub_val": ["y"]}
        )


@pytest.mark.parametrize("score", [True, False])
@pytest.mark.parametrize("channels", ["xy", "xyc"])
@pytest.mark.parametrize("form", ["pixels", "normalised", "normalised with img_shape"])
def test_undetected_joints_are_zeros_on_every_path(tmp_path, score, channels, form) -> None:
    if channels == "xyc" and not score:
        return
    rng = np.random.default_rng(0)
    keypoint = rng.uniform(0.1, 0.9, (4, 5, 17, 2))  # (M, T, V, C)
    if form == "pixels":
        keypoint *= 700
    missing = np.zeros((4, 5, 17), bool)
    missing[0, 1, 3] = missing[1, :, 4:6] = missing[3] = True
    keypoint[0, 1, 3] = 0
    keypoint[1, :, 4] = 0
    keypoint[1, :, 5] = keypoint[3] = -1  # mmaction2's empty place
    if score:
        missing[2, 2, 7] = True  # at a place, but with score 0
    item = {
        "frame_dir": "a",
        "label": 0,
        "keypoint": keypoint.astype(np.float32),
        "total_frames": 5,
    }
    item |= {"keypoint_score": np.where(missing, 0, 0.5)[..., None]} if score else {}
    item |= {} if form == "normalised" else {"img_shape": (720, 1280)}
    (clip,) = open_source(save(tmp_path / "a.pkl", [item]), Options(None, channels)).clips
    assert clip.positions.shape == (5, 17, len(channels), 4)  # all people
    place = clip.positions[:, :, :2].transpose(3, 0, 1, 2)
    np.testing.assert_array_equal(~place.any(axis=-1), missing)
    expected = (keypoint - [640, 360]) / 360 if form == "pixels" else keypoint
    np.testing.assert_allclose(place[~missing], expected[~missing], atol=1e-5)
    cleaned, _ = clean_clip(clip, channels)
    assert cleaned is not None
    assert cleaned.positions.shape[3] == 3  # the empty place is nobody


def test_a_list_of_annotations_without_splits(tmp_path, walkers) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([{"keypoint": walkers(6).transpose(3, 0, 1, 2)}]))
    (clip,) = open_source(tmp_path / "a.pkl").clips
    assert isinstance(clip, Clip)
    assert (clip.name, clip.label, dict(clip.split)) == ("clip000000", -1, {})
