import json
from pathlib import Path

import numpy as np
import pytest

from slim_fast.data.convert import convert
from slim_fast.data.readers import Options, open_source
from slim_fast.data.readers.source import Problem
from slim_fast.errors import UserError


def body(x: float = 100.0, joints: int = 25) -> list[float]:
    """Joint v at (x + v, 5 v), confidence 0.5; joint 3 undetected."""
    values = [[x + v, 5.0 * v, 0.5] for v in range(joints)]
    values[3] = [0, 0, 0]
    return [number for joint in values for number in joint]


def write(folder: Path, name: str, *people: list[float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"version": 1.3, "people": [{"pose_keypoints_2d": person} for person in people]}
    (folder / f"{name}_keypoints.json").write_text(json.dumps(content))


def test_a_folder_of_frames_is_a_clip_of_its_class(tmp_path) -> None:
    for kind, clip in (("wave", "one"), ("wave", "two"), ("clap", "three")):
        for t in range(12):  # 10 comes after 9
            write(tmp_path / "train" / kind / clip, f"cam_{t}", body(100.0 + t))
    source = open_source(tmp_path)
    clips = list(source.clips)
    assert [(clip.name, clip.label, dict(clip.split)) for clip in clips] == [
        ("train/clap/three", 0, {"default": "train"}),
        ("train/wave/one", 1, {"default": "train"}),
        ("train/wave/two", 1, {"default": "train"}),
    ]
    assert source.classes == ("clap", "wave")
    assert (source.topology.name, source.channels) == ("openpose-25", "xyc")
    assert clips[0].positions.shape == (12, 25, 3, 1)
    np.testing.assert_allclose(clips[0].positions[11, 2, :, 0], [113, 10, 0.5])
    assert not clips[0].positions[:, 3].any()


def test_clips_of_one_folder_are_told_apart_by_their_names(tmp_path) -> None:
    for t in range(3):
        write(tmp_path / "wave", f"a_{t:012d}", body())
        write(tmp_path / "wave", f"b_{t:012d}", body())
    names = [(clip.name, len(clip.positions)) for clip in open_source(tmp_path).clips]
    assert names == [("wave/a", 3), ("wave/b", 3)]


def test_frames_right_in_the_folder_are_one_clip(tmp_path) -> None:
    for t in range(3):
        write(tmp_path, f"v_{t:012d}", body(joints=18), body(400.0, joints=18))
    source = open_source(tmp_path)
    (clip,) = source.clips
    assert (clip.name, clip.label) == ("v", -1)
    assert source.topology.name == "openpose-18"
    assert clip.positions.shape == (3, 18, 3, 2)


def test_people_who_change_places_in_the_files_are_followed(tmp_path) -> None:
    for t in range(4):
        people = [body(100.0 + t), body(900.0 - t)]
        write(tmp_path / "c", f"v_{t}", *people[:: -1 if t % 2 else 1])
    (clip,) = open_source(tmp_path).clips
    first = clip.positions[:, 0, 0]  # (T, M): x of joint 0
    assert sorted(map(tuple, first.T.tolist())) == [(100, 101, 102, 103), (900, 899, 898, 897)]


def test_units_are_named(tmp_path) -> None:
    for t in range(9):
        write(tmp_path / "c", f"v_{t}", body())
    (warning,) = convert(tmp_path, tmp_path / "out").warnings
    assert "looks like pixels" in warning
    done = convert(tmp_path / "c", tmp_path / "scaled", Options(scale=0.005))
    assert done.warnings == []
    np.testing.assert_allclose(done.cache.clip(0)[0, 4, :2, 0], [0.52, 0.1], rtol=1e-6)
    assert done.cache.clip(0)[0, 4, 2, 0] == 0.5  # a confidence has no unit


def test_a_frame_that_cannot_be_read_is_empty(tmp_path) -> None:
    for t in range(3):
        write(tmp_path / "c", f"v_{t}", body())
    (tmp_path / "c" / "v_1_keypoints.json").write_text('{"people": [{"pose')
    source = open_source(tmp_path)
    (clip,) = source.clips
    assert clip.positions.any(axis=(1, 2, 3)).tolist() == [True, False, True]
    reason = "taken for an empty frame: no JSON, or cut short"
    assert source.problems == [Problem("c/v_1_keypoints.json", reason, is_recording=False)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "no object with a list of 'people'"),
        ({"people": 3}, "no object with a list of 'people'"),
        ({"people": [3]}, "a person without 'pose_keypoints_2d' of three numbers a joint"),
        (
            {"people": [{"pose_keypoints_2d": [1, 2]}]},
            "a person without 'pose_keypoints_2d' of three numbers a joint",
        ),
        ({"people": [{"pose_keypoints_2d": ["a", 2, 3]}]}, "coordinates that are not numbers"),
        (
            {"people": [{"pose_keypoints_2d": body()}, {"pose_keypoints_2d": [1, 2, 3]}]},
            "people with different numbers of joints",
        ),
    ],
)
def test_what_is_no_frame_is_told(tmp_path, content, reason) -> None:
    write(tmp_path / "c", "v_0", body())
    (tmp_path / "c" / "v_1_keypoints.json").write_text(json.dumps(content))
    source = open_source(tmp_path)
    list(source.clips)
    assert reason in source.problems[0].reason


def test_clips_without_anybody_or_with_two_skeletons_are_skipped(tmp_path) -> None:
    write(tmp_path / "a", "v_0")
    write(tmp_path / "b", "v_0", body())
    write(tmp_path / "c", "v_0", body())
    write(tmp_path / "c", "v_1", body(joints=18))
    source = open_source(tmp_path)
    assert [clip.name for clip in source.clips] == ["b"]
    assert {problem.item: problem.reason for problem in source.problems} == {
        "a": "no person in any frame",
        "c": "frames with different numbers of joints",
    }


def test_a_skeleton_that_is_not_known_is_one_sentence(tmp_path) -> None:
    write(tmp_path, "v_0", body(joints=15))
    with pytest.raises(UserError, match="15 joints, which are neither BODY_25 nor COCO"):
        open_source(tmp_path)
    with pytest.raises(UserError, match="has x, y and a confidence"):
        open_source(tmp_path, Options(channels="xyz"))


def test_folders_without_people_are_one_sentence(tmp_path) -> None:
    write(tmp_path, "v_0")
    with pytest.raises(UserError, match="shows nobody"):
        open_source(tmp_path)
