import os
from pathlib import Path

import numpy as np
import pytest

from slim_fast.data import Clip
from slim_fast.data.readers import Options, open_source
from slim_fast.data.readers.ntu import ACTIONS, TRAIN_SUBJECTS_60, TRAIN_SUBJECTS_120, parse_name
from slim_fast.data.readers.ntu_raw import choose_people, parse_skeleton, read_file
from slim_fast.data.readers.source import Problem
from slim_fast.errors import UserError

A, B, C = 72057594037931101, 72057594037931102, 72057594037931103  # as floats these are equal


def body(walkers, frames: int = 20, motion: float = 1.0, seed: int = 0) -> np.ndarray:
    still = walkers(1, seed=seed)[0, :, :, 0]
    return still + motion * np.sin(np.arange(frames))[:, None, None] * 0.1  # (T, 25, 3)


def frames_of(*tracks: tuple[int, int, np.ndarray], length: int = 20) -> list[dict[int, np.ndarray]]:
    # (tracking id, first frame, joints)
    return [
        {track: joints[t - first] for track, first, joints in tracks if first <= t < first + len(joints)}
        for t in range(length)
    ]


def test_bodies_are_kept_apart_by_their_tracking_id(tmp_path, walkers, write_skeleton) -> None:
    one, two = body(walkers), body(walkers, motion=2.0, seed=1)
    path = tmp_path / "S003C002P008R001A058.skeleton"
    frames = frames_of((A, 0, one), (B, 0, two))
    frames[7] = dict(reversed(frames[7].items()))  # the tracker's order within a frame means nothing
    write_skeleton(path, frames)
    clip = read_file(path)
    assert isinstance(clip, Clip)
    np.testing.assert_allclose(clip.positions, np.stack([two, one], axis=-1), rtol=1e-6)  # most motion first
    assert (clip.label, clip.subject, clip.camera, clip.setup) == (57, 8, 2, 3)


def test_someone_who_leaves_and_comes_back_is_absent_between(tmp_path, walkers, write_skeleton) -> None:
    frames = frames_of((A, 0, body(walkers)), (B, 0, body(walkers, seed=1, motion=0.1)))
    for t in (9, 10):
        del frames[t][B]
    write_skeleton(tmp_path / "S001C001P001R001A050.skeleton", frames)
    clip = read_file(tmp_path / "S001C001P001R001A050.skeleton")
    assert isinstance(clip, Clip)
    absent = ~clip.positions.any(axis=(1, 2))
    assert np.argwhere(absent).tolist() == [[9, 1], [10, 1]]


@pytest.mark.parametrize(
    ("stray", "why"),
    [
        (lambda x: x[:11], "tracked in 11 frames only"),
        (lambda x: x[:, :, [1, 0, 2]], "lying: wider than high in every frame"),
        (lambda x: x * 0, "all joints zero"),
        (lambda x: x * np.nan, "no finite joint"),
    ],
)
def test_stray_bodies_are_removed_unless_nobody_else_is_there(walkers, stray, why) -> None:
    person = np.arange(20), body(walkers, motion=0.1)
    joints = stray(body(walkers, motion=5.0, seed=1))
    noise = np.arange(len(joints)), joints
    assert list(choose_people({A: noise, B: person})) == [B], why
    alone = choose_people({A: noise})
    assert list(alone) == ([A] if np.isfinite(joints).all() and joints.any() else []), why


def test_twelve_frames_and_a_few_wide_ones_are_a_person(walkers) -> None:
    joints = body(walkers)
    joints[:13] = joints[:13][:, :, [1, 0, 2]]  # 65 % of the frames; the limit is 69.754 %
    assert set(choose_people({A: (np.arange(20), joints), B: (np.arange(12), body(walkers, 12))})) == {A, B}
    joints[13] = joints[13][:, [1, 0, 2]]  # 70 %
    assert set(choose_people({A: (np.arange(20), joints), B: (np.arange(12), body(walkers, 12))})) == {B}


def test_of_three_the_two_with_most_motion_stay(walkers) -> None:
    bodies = {track: (np.arange(20), body(walkers, motion=motion)) for track, motion in ((A, 1.0), (B, 3.0), (C, 2.0))}
    assert list(choose_people(bodies)) == [B, C]


def test_every_cut_of_a_file_is_called_truncated_or_harmless(tmp_path, walkers, write_skeleton) -> None:
    text = write_skeleton(tmp_path / "a.skeleton", frames_of((A, 0, body(walkers, 3)), length=3))
    whole = parse_skeleton(text)[1][A][1]
    for cut in range(0, len(text), 7):
        try:
            _, bodies = parse_skeleton(text[:cut])
        except UserError as error:
            assert str(error) in ("truncated", "an empty file", "not a skeleton file")  # noqa: PT017 (or none)
        else:  # only the last number lost digits, which is none of the coordinates
            np.testing.assert_array_equal(bodies[A][1], whole)
            assert cut > len(text) - 7


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff" * 500,
        b"hello world",
        b"3",
        b"-1",
        b"2\n1\n",
        b"99999999999",
        b"nan 1 2 3",
        b"1\n1\n7 0 0 0 0 0 0 0 0 0\n24\n" + b"0 " * 288,
    ],
)
def test_what_is_no_skeleton_file_is_a_problem_not_an_error(tmp_path, content) -> None:
    path = tmp_path / "S001C001P001R001A001.skeleton"
    path.write_bytes(content)
    assert isinstance(read_file(path), Problem)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_with_broken_files(tmp_path, walkers, write_skeleton, workers) -> None:
    good = frames_of((A, 0, body(walkers)))
    names = [f"S001C001P001R{r:03d}A{a:03d}" for r, a in ((1, 1), (2, 1), (1, 60), (1, 61))]
    (tmp_path / "more").mkdir()
    for name in names:
        write_skeleton(tmp_path / "more" / f"{name}.skeleton", good)
    (tmp_path / "S001C001P001R009A001.skeleton").write_bytes(b"103\r\n1\r\n720575940")
    write_skeleton(tmp_path / "S001C001P001R009A002.skeleton", [{}, {}])
    write_skeleton(tmp_path / "S001C001P001R009A121.skeleton", good)
    write_skeleton(tmp_path / f"{names[0]}.skeleton", good)
    source = open_source(tmp_path, Options(workers=workers))
    assert sorted(clip.name for clip in source.clips) == sorted(names)
    assert {problem.item[-8:]: problem.reason for problem in source.problems} == {
        "R009A001": "truncated",
        "R009A002": "nobody in any frame",
        "R009A121": "action outside A001..A120",
        "R001A001": "a second file of the same name",
    }
    assert source.classes == ACTIONS
    assert source.topology.name == "ntu-25"


def test_splits_follow_the_official_lists() -> None:
    assert (len(TRAIN_SUBJECTS_60), len(TRAIN_SUBJECTS_120), len(set(ACTIONS))) == (20, 53, 120)
    first = parse_name("S001C001P001R001A001")
    assert first is not None
    assert first.splits == {"ntu60-xsub": "train", "ntu60-xview": "test", "ntu120-xsub": "train", "ntu120-xset": "test"}
    second = parse_name("S018C002P003R001A061.skeleton")
    assert second is not None
    assert second.splits == {"ntu120-xsub": "test", "ntu120-xset": "train"}
    third = parse_name("S002C003P003R002A060")
    assert third is not None
    assert third.splits == {"ntu60-xsub": "test", "ntu60-xview": "train", "ntu120-xsub": "test", "ntu120-xset": "train"}
    assert parse_name("walking_01") is None


SHARED = Path(os.environ.get("SLIM_FAST_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data" / "ntu_raw"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real recordings of ../shared/data are not on this machine")
def test_real_recordings_have_two_people_exactly_in_mutual_actions() -> None:
    source = open_source(SHARED)
    people = {clip.name: (clip.positions.shape[3], clip.label + 1) for clip in source.clips}
    assert len(people) == 77
    assert not source.problems
    assert all((count == 2) == (50 <= action <= 60 or action >= 106) for count, action in people.values())
