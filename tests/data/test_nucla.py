import json
from pathlib import Path

import numpy as np
import pytest

from slim_fast.data.readers import open_source


def write(folder: Path, name: str, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / f"{name}.json").write_text(text)


def skeletons(frames: int = 2) -> list:
    # joint v of frame t is at (t, v, 1)
    return [[[t, v, 1.0] for v in range(20)] for t in range(frames)]


def test_label_subject_view_and_split_come_from_the_name(tmp_path) -> None:
    for name in ("a01_s02_e00_v01", "a08_s10_e03_v02", "a12_s01_e00_v03"):
        write(tmp_path, name, {"file_name": name, "skeletons": skeletons(), "label": 1})
    source = open_source(tmp_path)
    clips = list(source.clips)
    found = [(clip.label, clip.subject, clip.camera, dict(clip.split)) for clip in clips]
    # action 7 is not in the data set, so 8 is the seventh class, from 0
    assert found == [
        (0, 2, 1, {"nucla-xview": "train"}),
        (6, 10, 2, {"nucla-xview": "train"}),
        (9, 1, 3, {"nucla-xview": "test"}),
    ]
    assert source.classes[6] == "donning"
    assert (source.topology.name, source.channels, source.num_clips) == ("kinect-v1-20", "xyz", 3)
    assert clips[0].positions.shape == (2, 20, 3, 1)
    np.testing.assert_array_equal(clips[0].positions[1, 19, :, 0], [1, 19, 1])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "an empty file"),
        ('{"skeletons": [[[0.1, 0.2', "no JSON, or cut short"),
        ("[" * 5000 + "]" * 5000, "no object with 'skeletons'"),
        ("[" * 500_000, "no JSON, or cut short"),
        ([1, 2], "no object with 'skeletons'"),
        ({"skeletons": [[[1, 2, 3]] * 19]}, "coordinates of another shape than any x 20 x 3"),
        ({"skeletons": [[[1, 2]] * 20]}, "coordinates of another shape than any x 20 x 3"),
        ({"skeletons": []}, "coordinates of another shape than any x 20 x 3"),
        ({"skeletons": [[["a", 2, 3]] * 20]}, "coordinates that are not numbers"),
        ({"skeletons": [[[10**400, 2, 3]] * 20]}, "coordinates that are not numbers"),
        ({"skeletons": [[[1, 2, 3]] * 20, [[1, 2, 3]]]}, "coordinates that are not numbers"),
    ],
)
def test_what_is_no_clip_is_a_problem(tmp_path, content, reason) -> None:
    write(tmp_path, "a01_s01_e00_v01", content)
    write(tmp_path, "a02_s01_e00_v01", {"skeletons": skeletons()})
    write(tmp_path, "a07_s01_e00_v01", {"skeletons": skeletons()})
    source = open_source(tmp_path)
    assert [clip.name for clip in source.clips] == ["a02_s01_e00_v01"]
    first, second = source.problems
    assert first.item == "a01_s01_e00_v01"
    # Python before 3.12 gives up on deep lists earlier
    assert reason in first.reason or first.reason == "no JSON, or cut short"
    assert second[:2] == (
        "a07_s01_e00_v01",
        "an action that is none of 1, 2, 3, 4, 5, 6, 8, 9, 11, 12",
    )


def test_a_null_is_an_undetected_joint(tmp_path) -> None:
    frames = skeletons(3)
    frames[1][4] = [None, None, None]
    write(tmp_path, "a01_s01_e00_v01", {"skeletons": frames})
    (clip,) = open_source(tmp_path).clips
    assert np.argwhere(np.isnan(clip.positions[..., 0]).all(axis=2)).tolist() == [[1, 4]]
