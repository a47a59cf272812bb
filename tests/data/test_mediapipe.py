import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slim_fast.data.convert import convert
from slim_fast.data.readers import Options, open_source
from slim_fast.errors import UserError


def body(x: float = 0.0, form: str = "object") -> list[Any]:
    """33 landmarks, number v at (x + v / 100, v / 50, 0.1), visibility 0.75."""
    marks = [[x + v / 100, v / 50, 0.1, 0.75] for v in range(33)]
    if form == "numbers":
        return marks
    return [dict(zip(("x", "y", "z", "visibility"), mark, strict=True)) for mark in marks]


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


EXPECTED = [0.1, 0.2, 0.1, 0.75]  # of landmark 10


@pytest.mark.parametrize(
    "frame",
    [
        {"worldLandmarks": [body()], "landmarks": [body(0.5)]},  # JavaScript
        {"pose_world_landmarks": [body()], "pose_landmarks": [body(0.5)]},  # Python's tasks
        {"pose_world_landmarks": {"landmark": body()}},  # a protocol buffer as JSON
        {"world_landmarks": body(form="numbers"), "frame": 7},
        {"poseWorldLandmarks": [[[*mark, 0.9] for mark in body(form="numbers")]]},  # and presence
    ],
)
def test_world_landmarks_in_every_form(tmp_path, frame) -> None:
    write(tmp_path / "clip.json", [frame, frame])
    source = open_source(tmp_path)
    (clip,) = source.clips
    assert (source.topology.name, source.channels, source.warnings) == ("mediapipe-33", "xyzc", [])
    assert clip.positions.shape == (2, 33, 4, 1)
    np.testing.assert_allclose(clip.positions[1, 10, :, 0], EXPECTED, rtol=1e-6)


def test_landmarks_of_the_image_are_in_half_image_heights(tmp_path) -> None:
    frames = [{"landmarks": [body(0.4)]}]
    write(tmp_path / "a.json", {"width": 1920, "height": 1080, "frames": frames})
    source = open_source(tmp_path)
    (clip,) = source.clips
    # x: (0.5 - 0.5) * 2 * 16 / 9, y: (0.2 - 0.5) * 2, z: like x but without a middle
    np.testing.assert_allclose(
        clip.positions[0, 10, :, 0], [0, -0.6, 0.1 * 32 / 9, 0.75], atol=1e-7
    )
    assert source.warnings == []


def test_without_the_images_size_they_count_as_square(tmp_path) -> None:
    write(tmp_path / "a.json", [{"pose_landmarks": [body(0.4)]}])
    source = open_source(tmp_path)
    (clip,) = source.clips
    np.testing.assert_allclose(clip.positions[0, 0, :, 0], [-0.2, -1, 0.2, 0.75], atol=1e-7)
    assert "count as square" in source.warnings[0]


def test_a_file_a_frame(tmp_path) -> None:
    for t in range(11):
        write(tmp_path / "jump" / "one" / f"frame_{t}.json", {"worldLandmarks": [body(t / 10)]})
        write(tmp_path / "sit" / "two" / f"frame_{t}.json", {"worldLandmarks": []})
    write(tmp_path / "sit" / "two" / "frame_4.json", {"worldLandmarks": [body()]})
    (tmp_path / "jump" / "one" / "frame_3.json").write_text("[")
    source = open_source(tmp_path)
    one, two = source.clips
    assert [(clip.name, source.classes[clip.label]) for clip in (one, two)] == [
        ("jump/one", "jump"),
        ("sit/two", "sit"),
    ]
    present = one.positions.any(axis=(1, 2, 3))
    assert np.flatnonzero(~present).tolist() == [3]
    np.testing.assert_allclose(one.positions[10, 0, 0, 0], 1.0)
    assert np.flatnonzero(two.positions.any(axis=(1, 2, 3))).tolist() == [4]
    assert [problem.item for problem in source.problems] == ["jump/one/frame_3.json"]


def test_people_are_followed_by_their_images(tmp_path) -> None:
    # in world coordinates both have their hips at the origin
    worlds, images = [body(0.0), body(0.01)], [body(0.1), body(0.6)]
    frames = [
        {"worldLandmarks": worlds[::way], "landmarks": images[::way]} for way in (1, -1, 1, -1)
    ]
    write(tmp_path / "a.json", frames)
    (clip,) = open_source(tmp_path).clips
    first = sorted(clip.positions[:, 0, 0].T.tolist())
    np.testing.assert_allclose(first, [[0, 0, 0, 0], [0.01, 0.01, 0.01, 0.01]])


def test_visibility_makes_the_channels_and_may_be_left_out(tmp_path) -> None:
    marks = [{axis: mark[axis] for axis in "xyz"} for mark in body()]
    write(tmp_path / "a.json", [{"worldLandmarks": [marks]}])
    assert open_source(tmp_path).channels == "xyz"
    write(tmp_path / "a.json", [{"worldLandmarks": [body()]}] * 9)
    cache = convert(tmp_path, tmp_path / "out", Options(channels="xyz")).cache
    assert (cache.channels, cache.clip(0).shape) == ("xyz", (9, 33, 3, 1))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([{"worldLandmarks": [body()[:32]]}], "landmarks that are not 33 points a person"),
        ([{"worldLandmarks": 3}], "landmarks that are not 33 points a person"),
        ([{"worldLandmarks": [[{"x": "a"}] * 33]}], "coordinates that are not numbers"),
        ([{"hands": []}], "a frame without landmarks"),
        ([{"worldLandmarks": []}, {"worldLandmarks": None}], "no person in any frame"),
        ([{"landmarks": [body()]}], "no world landmarks, which other clips have"),
        ({"frames": 3}, "'frames' that are no list"),
        (3, "no list of frames"),
        ([], "no person in any frame"),
    ],
)
def test_what_is_no_clip_is_a_problem(tmp_path, content, reason) -> None:
    write(tmp_path / "a.json", [{"worldLandmarks": [body()]}])
    write(tmp_path / "b.json", content)
    source = open_source(tmp_path)
    assert [clip.name for clip in source.clips] == ["a"]
    ((item, found, _),) = source.problems
    assert item == "b"
    assert reason in found


def test_other_json_is_no_landmarks(tmp_path) -> None:
    write(tmp_path / "package.json", {"name": "x"})
    write(tmp_path / "list.json", [1, 2, 3])
    with pytest.raises(UserError, match="in no known format"):
        open_source(tmp_path)
