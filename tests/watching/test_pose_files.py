"""Poses of JSON lines, files and folders, of MediaPipe and OpenPose; what is wrong with them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slim_fast.errors import UserError
from slim_fast.watching.pose_files import is_pose_source, open_poses


def openpose_frame(number: int = 0, joints: int = 25, **more: Any) -> dict[str, Any]:
    points = [[100.0 + joint + number, 50.0 + 2 * joint, 0.9] for joint in range(joints)]
    points[3] = [0.0, 0.0, 0.0]
    return {"people": [{"pose_keypoints_2d": np.ravel(points).tolist()}], **more}


def write_lines(path: Path, frames: list[Any]) -> str:
    path.write_text("\n".join(json.dumps(frame) for frame in frames) + "\n\n", encoding="utf-8")
    return str(path)


def test_lines_a_list_and_a_folder_are_the_same_poses(recording, tmp_path, monkeypatch):
    frames = recording[:12]
    untimed = [{k: v for k, v in frame.items() if k != "seconds"} for frame in frames]
    (tmp_path / "folder").mkdir()
    for number, frame in enumerate(untimed):  # 2 is before 10
        (tmp_path / "folder" / f"frame{number}.json").write_text(json.dumps(frame))
    (tmp_path / "list.json").write_text(json.dumps(untimed))
    size = {key: untimed[0][key] for key in ("width", "height")}
    bare = [{k: v for k, v in frame.items() if k not in size} for frame in untimed]
    (tmp_path / "clip.json").write_text(json.dumps({"frames": bare, **size}))
    lines = write_lines(tmp_path / "lines.jsonl", frames)
    want = list(open_poses(lines, 30, 30).frames)
    assert [frame.seconds for frame in want] == pytest.approx(np.arange(12) / 30, abs=1e-4)
    assert want[0].world is not None
    assert want[0].world.shape == (1, 33, 4)
    monkeypatch.setattr("sys.stdin", io.StringIO(Path(lines).read_text()))
    for name in ("folder", "list.json", "clip.json", "-"):
        given = name if name == "-" else str(tmp_path / name)
        assert is_pose_source(given)
        source = open_poses(given, 30, 30)
        assert (source.world_channels, source.image_channels) == ("xyzc", "xyzc")
        assert source.seconds == (None if name == "-" else pytest.approx(0.4))
        for got, frame in zip(source.frames, want, strict=True):
            np.testing.assert_array_equal(got.world, frame.world)
            np.testing.assert_array_equal(got.image, frame.image)
    marks = np.array(frames[0]["landmarks"])[0]
    image = want[0].image
    assert image is not None
    np.testing.assert_allclose(image[0, :, 0], (marks[:, 0] - 0.5) * 2 * 1280 / 720)
    np.testing.assert_allclose(image[0, :, 1], (marks[:, 1] - 0.5) * 2)


def test_frames_of_openpose_become_half_image_heights(tmp_path):
    frames: list[Any] = [openpose_frame(n) for n in range(4)]
    path = write_lines(tmp_path / "poses.jsonl", [{"people": []}, *frames])
    source = open_poses(path, 25, 30, (640, 200))
    assert (source.topology.name, source.image_channels) == ("openpose-25", "xyc")
    empty, first, *_ = list(source.frames)
    assert (empty.people, first.people) == (0, 1)
    assert first.image is not None
    np.testing.assert_allclose(first.image[0, 0], [(100 - 320) / 100, (50 - 100) / 100, 0.9])
    assert not first.image[0, 3].any()
    sized = [openpose_frame(joints=18, width=640, height=200)]
    (frame,) = open_poses(write_lines(tmp_path / "p.jsonl", sized), 25, 30).frames
    assert frame.image is not None
    np.testing.assert_allclose(frame.image[0, 0], first.image[0, 0])


@pytest.mark.parametrize(("recorded", "rate", "kept"), [(60, 30, 30), (50, 30, 36), (25, 30, 60)])
def test_no_more_frames_a_second_than_asked_for(tmp_path, recorded, rate, kept):
    frames = [openpose_frame(width=640, height=480)] * 60
    (tmp_path / "p.json").write_text(json.dumps(frames))
    source = open_poses(str(tmp_path / "p.json"), recorded, rate)
    assert source.total == kept
    times = [frame.seconds for frame in source.frames]
    assert len(times) == kept
    assert max(times) >= 58 / recorded


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"people": [{"pose_keypoints_2d": [1, 2]}]}', "Frame 1 of .* a person without"),
        ("{", "line 1, is no JSON"),
        ('{"a": 1}', "Frame 1 of .* a frame without landmarks"),
        ('{"people": []}\n' * 3, "shows nobody in its first 3 frames"),
        ("", "shows nobody in its first 0 frames"),
        ("[1, 2]", "Frame 1 of .* landmarks that are not 33 points"),
        (json.dumps(openpose_frame(joints=7)), "7 joints, which are neither"),
        (json.dumps(openpose_frame()), '"width" and "height" of the image.*--image-size'),
        (
            json.dumps(openpose_frame(width=9, height=9))
            + "\n"
            + json.dumps(openpose_frame(joints=18)),
            "Frame 2 of .* 18 joints, not 25",
        ),
        (
            json.dumps(openpose_frame(seconds=3, width=9, height=9))
            + "\n"
            + json.dumps(openpose_frame(seconds=2)),
            "Frame 2 of .* at 2 s, after one at 3 s",
        ),
    ],
)
def test_what_is_no_pose_is_one_sentence(tmp_path, content, says):
    (tmp_path / "poses.jsonl").write_text(content)
    with pytest.raises(UserError, match=says):
        list(open_poses(str(tmp_path / "poses.jsonl"), 30, 30).frames)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", b'{"frames": 3}', "holds no list of frames"),
        ("a.json", b"", "cannot be read: an empty file"),
        ("a.jsonl", b"\xff\xfe\x00", "is no text"),
        ("nothing.jsonl", None, "No such file"),
        ("nothing.json", None, "No such file"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        list(open_poses(str(tmp_path / name), 30, 30).frames)


def test_frames_with_other_people_in_space_than_in_the_image(recording, tmp_path):
    odd = {**recording[1], "worldLandmarks": []}
    path = write_lines(tmp_path / "p.jsonl", [recording[0], odd])
    with pytest.raises(UserError, match="0 people with world landmarks and 1 with image"):
        list(open_poses(path, 30, 30).frames)
