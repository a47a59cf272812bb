import pickle

import numpy as np
import pytest

from slim_fast.data.clips import Clip
from slim_fast.data.readers import Options, open_source
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology


def save(path, annotations, split=None, protocol: int = 4):
    path.write_bytes(pickle.dumps({"split": split or {}, "annotations": annotations}, protocol))
    return path


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
    split = {"xsub_train": names[:2], "xsub_val": names[2:], "xview_train": [names[3]], "xview_val": [names[0]]}
    source = open_source(save(tmp_path / "ntu60_3danno.pkl", annotations, split, protocol))
    clips = list(source.clips)
    assert (source.topology.name, source.channels, source.expected) == ("ntu-25", "xyz", 4)
    for i, clip in enumerate(clips):
        np.testing.assert_array_equal(clip.positions, people[i][:-1])
        assert (clip.name, clip.label, clip.subject, clip.setup) == (names[i], i, i + 1, 1)
    assert clips[0].split == {"ntu60-xsub": "train", "ntu60-xview": "test"}
    assert clips[3].split == {"ntu60-xsub": "test", "ntu60-xview": "train"}
    assert clips[1].split == {"ntu60-xsub": "train"}


@pytest.mark.parametrize("topology", ["coco-17", "upwards"])
def test_pixels_are_centred_and_scaled_by_half_the_height(tmp_path, topology) -> None:
    coco = get_topology("coco-17")
    skeleton = coco if topology == "coco-17" else type(coco).from_dict(coco.to_dict() | {"name": "up", "up": "y"})
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
    up = -1 if topology == "coco-17" else 1  # y values grow in the direction the topology's `up` tells
    np.testing.assert_allclose(clip.positions[1, 3, :2, 0], [16 / 9, up], rtol=1e-3)
    np.testing.assert_array_equal(clip.positions[2, 5, :2, 0], 0)
    np.testing.assert_array_equal(clip.positions[0, :, 0, 0], 0)
    np.testing.assert_array_equal(clip.positions[0, :, 1, 1], -up)
    np.testing.assert_array_equal(clip.positions[1:, :, :2, 1], 0)  # absent stays absent


def test_split_names(tmp_path, walkers) -> None:
    keypoint = walkers(2).transpose(3, 0, 1, 2)
    split = {"train": ["a", "b"], "val": ["c"], "test": ["b", "d"], "train1": ["a"], "test1": ["c"], "odd": ["a"]}
    annotations = [{"frame_dir": name, "label": 0, "keypoint": keypoint} for name in "abcd"]
    clips = {clip.name: clip.split for clip in open_source(save(tmp_path / "gym.pkl", annotations, split)).clips}
    assert clips == {
        "a": {"default": "train", "1": "train"},
        "b": {"default": "test"},
        "c": {"1": "test"},
        "d": {"default": "test"},
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"keypoint": None}, "keypoint is not"),
        ({"keypoint": np.ones((6, 25, 3))}, "keypoint is not"),
        ({"keypoint": [[1], [1, 2]]}, "keypoint is not"),
        ({"label": "jump"}, "label is not"),
        ({"label": 0.5}, "label is not"),
        ({"img_shape": (0, 5)}, "img_shape is not"),
        ({"img_shape": "big"}, "img_shape is not"),
    ],
)
def test_bad_annotations_are_problems(tmp_path, walkers, change, reason) -> None:
    good = {"frame_dir": "good", "label": 0, "keypoint": walkers(6).transpose(3, 0, 1, 2)}
    source = open_source(save(tmp_path / "a.pkl", [good | {"frame_dir": "bad"} | change, good]))
    assert [clip.name for clip in source.clips] == ["good"]
    assert [problem.item for problem in source.problems] == ["bad"]
    assert source.problems[0].reason.startswith(reason)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "not of PYSKL's form"),
        ({"annotations": []}, "not of PYSKL's form"),
        ((["a"], [0]), "not of PYSKL's form"),
        ({"annotations": [{"x": 1}]}, "no annotation with a 4-dimensional 'keypoint': the first has x"),
        ({"annotations": [{"keypoint": np.ones((1, 2, 20, 3))}]}, "20 joints of 3 coordinates"),
        ({"annotations": [{"keypoint": np.ones((1, 2, 25, 3))}], "split": [1]}, "'split' that is not a dict"),
    ],
)
def test_other_pickles(tmp_path, content, message) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=message):
        open_source(tmp_path / "a.pkl")


def test_a_list_of_annotations_without_splits(tmp_path, walkers) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([{"keypoint": walkers(6).transpose(3, 0, 1, 2)}]))
    (clip,) = open_source(tmp_path / "a.pkl").clips
    assert isinstance(clip, Clip)
    assert (clip.name, clip.label, dict(clip.split)) == ("clip000000", -1, {})
