from pathlib import Path

import numpy as np
import pytest

from slim_fast.data.readers import open_source


def write(folder: Path, place: str, lines: list[str]) -> None:
    (folder / place).mkdir(parents=True)
    (folder / place / "skeleton_pos.txt").write_text("\n".join(lines))


def line(number: int, first: str = "0.5,0.25,2.0") -> str:
    """Joint 0 of the first person at `first`, the others undetected, all of the second detected."""
    return ",".join([str(number), first, *["0,0,0"] * 14, *["0.25,0.5,1.5"] * 15])


def test_normalised_coordinates_become_metres(tmp_path) -> None:
    write(tmp_path, "s01s02/01/001", [line(1), line(2, "0,0,0")])
    source = open_source(tmp_path)
    (clip,) = source.clips
    assert clip.positions.shape == (2, 15, 3, 2)
    # 1280 - 2560 / 2 = 0 mm, 960 - 1920 / 4 = 480 mm, 2 * 10000 / 7.8125 = 2560 mm
    np.testing.assert_allclose(clip.positions[0, 0, :, 0], [0, 0.48, 2.56], atol=1e-7)
    # 1280 - 2560 / 4 = 640 mm, 960 - 1920 / 2 = 0 mm, 1.5 * 10000 / 7.8125 = 1920 mm
    np.testing.assert_allclose(clip.positions[1, 14, :, 1], [0.64, 0, 1.92], atol=1e-7)
    # what is not detected stays zero
    assert not clip.positions[0, 1:, :, 0].any()
    assert not clip.positions[1, :, :, 0].any()
    assert source.topology.name == "sbu-15"


def test_each_fold_tests_its_own_pairs(tmp_path) -> None:
    for place in ("set/s01s02/02/001", "s07s03/08/003", "s09s01/01/001"):
        write(tmp_path, place, [line(1)])
    source = open_source(tmp_path)
    clips = {clip.name: clip for clip in source.clips}
    assert sorted(clips) == ["s01s02_02_001", "s07s03_08_003", "s09s01_01_001"]
    tested = {
        name: [fold for fold, subset in clip.split.items() if subset == "test"]
        for name, clip in clips.items()
    }
    assert tested == {
        "s01s02_02_001": ["sbu-fold1"],
        "s07s03_08_003": ["sbu-fold3"],
        "s09s01_01_001": [],
    }
    assert len(clips["s01s02_02_001"].split) == 5
    assert clips["s09s01_01_001"].split == {}  # no pair of the data set
    assert [(clips[name].label, clips[name].subject) for name in sorted(clips)] == [
        (1, 1),
        (7, 7),
        (0, 9),
    ]
    assert source.classes[7] == "08"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "an empty file"),
        ([line(1).rsplit(",", 6)[0]], "85 numbers a line instead of 91"),
        ([line(1), line(2)[:-20]], "no table of numbers, or cut short"),
        (["a,b,c"], "no table of numbers, or cut short"),
        ([line(1), "\0\0"], "no table of numbers, or cut short"),
    ],
)
def test_what_is_no_clip_is_a_problem(tmp_path, lines, reason) -> None:
    write(tmp_path, "s01s02/01/001", lines)
    write(tmp_path, "s01s02/01/002", [line(1)])
    source = open_source(tmp_path)
    assert [clip.name for clip in source.clips] == ["s01s02_01_002"]
    ((item, found, _),) = source.problems
    assert (item, found) == ("s01s02_01_001", reason)
