from pathlib import Path

import numpy as np
import pytest

from slim_fast.data.readers import Options, open_source
from slim_fast.errors import UserError
from slim_fast.skeletons import Topology, get_topology

STICK = Topology.from_dict(
    {
        "name": "stick-3",
        "joints": ["hip", "left_hand", "right_hand"],
        "parents": {"left_hand": "hip", "right_hand": "hip"},
        "parts": {"all": ["hip", "left_hand", "right_hand"]},
    }
)
HEADER = (
    "hip_x,hip_y,hip_z,left_hand_x,left_hand_y,left_hand_z,right_hand_x,right_hand_y,right_hand_z"
)


def read(folder: Path, text: str, options: Options | None = None) -> np.ndarray:
    (folder / "a.csv").write_text(text, encoding="utf-8")
    (clip,) = open_source(folder, options or Options(STICK)).clips
    return clip.positions


def why_not(folder: Path, text: str) -> str:
    """Why that file is no clip, beside one that is."""
    (folder / "a.csv").write_text(f"{HEADER}\n1,2,3,4,5,6,7,8,9\n")
    (folder / "b.csv").write_text(text)
    source = open_source(folder, Options(STICK))
    assert [clip.name for clip in source.clips] == ["a"]
    ((item, reason, _),) = source.problems
    assert item == "b"
    return reason


def test_a_row_is_a_frame_and_names_tell_the_joints(tmp_path) -> None:
    text = "time,RHand.Z,RHand.X,RHand.Y,hip x,hip y,hip z,Left-Hand:x,Left-Hand:y,Left-Hand:z\n"
    found = read(tmp_path, text + "0.0,9,7,8,1,2,3,4,5,6\n0.1,19,17,18,11,12,13,,nan,16\n")
    assert found.shape == (2, 3, 3, 1)
    np.testing.assert_array_equal(found[0, :, :, 0], [[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    np.testing.assert_array_equal(
        found[1, :, :, 0], [[11, 12, 13], [np.nan, np.nan, 16], [17, 18, 19]]
    )


def test_frames_and_people(tmp_path) -> None:
    rows = "3,ann,{0}\n1,ann,{1}\n1,bob,{2}\n9,bob,{3}\n"
    numbers = [",".join([f"{n}"] * 9) for n in (30, 10, 11, 91)]
    found = read(tmp_path, f"Frame,person,{HEADER}\n" + rows.format(*numbers))
    # frames 1, 3 and 9 are steps of 2: 1, 3, 5, 7, 9
    assert found.shape == (5, 3, 3, 2)
    np.testing.assert_array_equal(found[:, 0, 0, 0], [10, 30, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(found[:, 0, 0, 1], [11, np.nan, np.nan, np.nan, 91])


def test_semicolons_with_decimal_commas_tabs_and_a_bom(tmp_path) -> None:
    numbers = "1,5;2;3;4;5;6;7;8;9,25"
    found = read(tmp_path, f"\ufeff{HEADER.replace(',', ';')}\r\n{numbers}\r\n")
    assert (found[0, 0, 0, 0], found[0, 2, 2, 0]) == (1.5, 9.25)
    found = read(tmp_path, f"{HEADER}\n1.5,2,3,4,5,6,7,8,9".replace(",", "\t"))
    assert found[0, 0, 0, 0] == 1.5


def test_the_topology_is_the_one_with_these_joints(tmp_path) -> None:
    for name in ("kinect-v1-20", "utd-mhad-20", "ntu-25", "sbu-15", "mediapipe-33"):
        topology = get_topology(name)
        header = ",".join(f"{joint}_{axis}" for joint in topology.joints for axis in "xyz")
        row = ",".join(map(str, range(3 * topology.num_joints)))
        (tmp_path / "a.csv").write_text(f"{header}\n{row}\n")
        source = open_source(tmp_path)
        assert (source.topology.name, source.channels) == (name, "xyz")
        (clip,) = source.clips
        assert clip.positions[0, -1, 2, 0] == 3 * topology.num_joints - 1


def test_confidences_and_two_coordinates(tmp_path) -> None:
    header = ",".join(
        f"{joint}_{axis}"
        for joint in get_topology("coco-17").joints
        for axis in ("x", "y", "likelihood")
    )
    (tmp_path / "a.csv").write_text(f"{header}\n" + ",".join(["1", "2", "0.5"] * 17))
    source = open_source(tmp_path)
    assert (source.topology.name, source.channels) == ("coco-17", "xyc")
    (clip,) = source.clips
    np.testing.assert_array_equal(clip.positions[0, 5, :, 0], [1, 2, 0.5])


def test_numbered_joints_are_in_the_order_of_the_topology(tmp_path) -> None:
    header = ",".join(f"joint_{j}_{axis}" for j in (2, 0, 1) for axis in "xyz")
    found = read(tmp_path, f"{header}\n7,8,9,1,2,3,4,5,6\n")
    np.testing.assert_array_equal(found[0, :, 0, 0], [1, 4, 7])


def test_skeletons_that_do_not_fit_are_one_sentence(tmp_path) -> None:
    (tmp_path / "a.csv").write_text(f"{HEADER}\n1,2,3,4,5,6,7,8,9\n")
    with pytest.raises(UserError, match=r"3 joints .*of no known skeleton: pass --topology"):
        open_source(tmp_path)
    with pytest.raises(UserError, match="no columns for joint 'spine_mid' of topology 'ntu-25'"):
        open_source(tmp_path, Options(get_topology("ntu-25")))
    other = Topology("two", ("hip", "left_hand"), (-1, 0), (0, 1), {"all": (0, 1)}, 0)
    (warning,) = open_source(tmp_path, Options(other)).warnings
    assert "columns for right_hand, which were ignored" in warning


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a header without columns such as head_x, head_y"),
        ("1,2,3\n4,5,6", "a header without columns such as head_x, head_y"),
        (HEADER, "without frames"),
        (f"{HEADER}\n1,2,3", "rows of another length than the header, or cut short"),
        (f"{HEADER}\n1,2,3,4,5,6,7,8,x", "a cell that is no number"),
        (f"{HEADER},hip_x\n", "two columns for x of joint 'hip'"),
        (f"{HEADER.replace('hip_z', 'hip_q')}\n1,2,3,4,5,6,7,8,9", "no z for every joint"),
        (f"{HEADER.replace('hip', 'hop')}\n1,2,3,4,5,6,7,8,9", "no columns for joint 'hip'"),
        (f"frame,{HEADER}\n,1,2,3,4,5,6,7,8,9", "frames that are not numbered"),
        (f"frame,{HEADER}\n1,1,2,3,4,5,6,7,8,9\n1,1,2,3,4,5,6,7,8,9", "two rows for one frame"),
        (f"person,{HEADER}\n1,1,2,3,4,5,6,7,8,9", "a column person without a column frame"),
        (f"frame,{HEADER}\n0{',1' * 9}\n1{',1' * 9}\n999999{',1' * 9}", "more than 100000 frames"),
        (
            f"frame,person,{HEADER}" + "".join(f"\n0,p{i}{',1' * 9}" for i in range(201)),
            "201 people",
        ),
    ],
)
def test_what_is_no_clip_is_a_problem(tmp_path, text, reason) -> None:
    assert reason in why_not(tmp_path, text)


def test_a_table_of_something_else_is_no_clip(tmp_path) -> None:
    (tmp_path / "prices.csv").write_text("day,price\n1,2\n")
    with pytest.raises(UserError, match="in no known format"):
        open_source(tmp_path)
