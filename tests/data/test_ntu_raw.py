import os
from pathlib import Path

import numpy as np
import pytest

from slim_fast.data import Clip
from slim_fast.data.readers import Options, open_source
from slim_fast.data.readers.ntu import (
    ACTIONS,
    TRAIN_SUBJECTS_60,
    TRAIN_SUBJECTS_120,
    parse_ntu_name,
)
from slim_fast.data.readers.ntu_raw import parse_skeleton
from slim_fast.data.readers.source import Problem
from slim_fast.errors import UserError


def read_recording(path: Path) -> Clip | Problem:
    """The clip of a file, or why there is none."""
    source = open_source(path.parent)
    clips = {clip.name: clip for clip in source.clips}
    return clips.get(path.stem) or source.problems[0]


A, B = 72057594037931101, 72057594037931102  # as floats these are equal


def body(walkers, frames: int = 20, motion: float = 1.0, seed: int = 0) -> np.ndarray:
    still = walkers(1, seed=seed)[0, :, :, 0]
    return still + motion * np.sin(np.arange(frames))[:, None, None] * 0.1  # (T, 25, 3)


def frames_of(
    *tracks: tuple[int, int, np.ndarray], length: int = 20
) -> list[dict[int, np.ndarray]]:
    # (tracking id, first frame, joints)
    return [
        {
            track: joints[t - first]
            for track, first, joints in tracks
            if first <= t < first + len(joints)
        }
        for t in range(length)
    ]


def test_bodies_are_kept_apart_by_their_tracking_id(tmp_path, walkers, write_skeleton) -> None:
    one, two = body(walkers), body(walkers, motion=2.0, seed=1)
    path = tmp_path / "S003C002P008R001A058.skeleton"
    frames = frames_of((A, 0, one), (B, 0, two))
    # the tracker's order within a frame means nothing
    frames[7] = dict(reversed(frames[7].items()))
    write_skeleton(path, frames)
    clip = read_recording(path)
    assert isinstance(clip, Clip)
    # most motion first
    np.testing.assert_allclose(clip.positions, np.stack([two, one], axis=-1), rtol=1e-6)
    assert (clip.label, clip.subject, clip.camera, clip.setup) == (57, 8, 2, 3)


def test_someone_who_leaves_and_comes_back_is_absent_between(
    tmp_path, walkers, write_skeleton
) -> None:
    frames = frames_of((A, 0, body(walkers)), (B, 0, body(walkers, seed=1, motion=0.1)))
    for t in (9, 10):
        del frames[t][B]
    write_skeleton(tmp_path / "S001C001P001R001A050.skeleton", frames)
    clip = read_recording(tmp_path / "S001C001P001R001A050.skeleton")
    assert isinstance(clip, Clip)
    absent = ~clip.positions.any(axis=(1, 2))
    assert np.argwhere(absent).tolist() == [[9, 1], [10, 1]]


def test_every_cut_of_a_file_is_called_truncated_or_harmless(
    tmp_path, walkers, write_skeleton
) -> None:
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
    assert isinstance(read_recording(path), Problem)


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
        "R009A002": "no person in any frame",
        "R009A121": "action outside A001..A120",
        "R001A001": "a second file of the same name",
    }
    assert source.classes == ACTIONS
    assert source.topology.name == "ntu-25"


def test_linked_folders_are_searched_and_circles_end(tmp_path, walkers, write_skeleton) -> None:
    store, folder = tmp_path / "store", tmp_path / "ntu"
    for place, name in ((store / "deep", "S001C001P001R001A001"), (folder, "S001C001P001R001A002")):
        place.mkdir(parents=True)
        write_skeleton(place / f"{name}.skeleton", frames_of((A, 0, body(walkers))))
    (folder / "a").symlink_to(store, target_is_directory=True)
    (folder / "b").symlink_to(store, target_is_directory=True)  # the same again
    (store / "circle").symlink_to(folder, target_is_directory=True)
    (folder / "another name.skeleton").symlink_to(folder / "S001C001P001R001A002.skeleton")
    (folder / "gone.skeleton").symlink_to(folder / "nothing")
    source = open_source(folder)
    assert sorted(clip.name for clip in source.clips) == [
        "S001C001P001R001A001",
        "S001C001P001R001A002",
    ]
    assert source.problems == [Problem("gone", "unreadable (No such file or directory)")]


def test_a_folder_that_cannot_be_searched_is_named(
    tmp_path, monkeypatch, walkers, write_skeleton
) -> None:
    (tmp_path / "locked").mkdir()
    write_skeleton(tmp_path / "S001C001P001R001A001.skeleton", frames_of((A, 0, body(walkers))))
    scandir = os.scandir

    def refuse(path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    source = open_source(tmp_path)
    assert len(list(source.clips)) == 1
    assert source.problems == [Problem("locked", "a folder, unreadable (Permission denied)")]


def test_names_in_small_letters_and_endings_in_capitals_mean_the_same(
    tmp_path, walkers, write_skeleton
) -> None:
    good = frames_of((A, 0, body(walkers)))
    for name in (
        "s001c002p003r002a013.skeleton",
        "S001C002P003R002A014.SKELETON",
        "S001C002P003R002A013.skeleton",
    ):
        write_skeleton(tmp_path / name, good)
    source = open_source(tmp_path)
    clips = {
        clip.name: (clip.label, clip.subject, clip.camera, clip.setup, clip.split)
        for clip in source.clips
    }
    splits = {
        "ntu60-xsub": "test",
        "ntu60-xview": "train",
        "ntu120-xsub": "test",
        "ntu120-xset": "test",
    }
    assert clips == {f"S001C002P003R002A0{a}": (a - 1, 3, 2, 1, splits) for a in (13, 14)}
    assert source.problems == [Problem("s001c002p003r002a013", "a second file of the same name")]
    assert len(list(open_source(tmp_path / "S001C002P003R002A014.SKELETON").clips)) == 1


@pytest.mark.parametrize(
    ("name", "nearly"),
    [
        ("S1C2P3R2A13", True),
        ("S001C002P003R002A0131", True),
        ("s001_c002_p003_r002_a013", True),
        ("S001C002P003A013", True),
        ("walking_01", False),
        ("a01_s02_e03", False),
        ("caps2r1a3", False),
    ],
)
def test_what_is_nearly_a_name_is_no_clip_without_label(
    tmp_path, walkers, write_skeleton, name, nearly
) -> None:
    assert parse_ntu_name(name) is None
    write_skeleton(tmp_path / f"{name}.skeleton", frames_of((A, 0, body(walkers))))
    found = read_recording(tmp_path / f"{name}.skeleton")
    if nearly:
        assert isinstance(found, Problem)
        assert "a name nearly like S001C002P003R002A013" in found.reason
    else:
        assert isinstance(found, Clip)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")
def test_a_pipe_does_not_stop_the_reader(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.skeleton")
    assert read_recording(tmp_path / "pipe.skeleton") == Problem("pipe", "no regular file")


def test_splits_follow_the_official_lists() -> None:
    assert (len(TRAIN_SUBJECTS_60), len(TRAIN_SUBJECTS_120), len(set(ACTIONS))) == (20, 53, 120)
    first = parse_ntu_name("S001C001P001R001A001")
    assert first is not None
    assert first.splits == {
        "ntu60-xsub": "train",
        "ntu60-xview": "test",
        "ntu120-xsub": "train",
        "ntu120-xset": "test",
    }
    second = parse_ntu_name("S018C002P003R001A061.skeleton")
    assert second is not None
    assert second.splits == {"ntu120-xsub": "test", "ntu120-xset": "train"}
    third = parse_ntu_name("S002C003P003R002A060")
    assert third is not None
    assert third.splits == {
        "ntu60-xsub": "test",
        "ntu60-xview": "train",
        "ntu120-xsub": "test",
        "ntu120-xset": "train",
    }
    assert parse_ntu_name("walking_01") is None


SHARED = (
    Path(os.environ.get("SLIM_FAST_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    / "data"
    / "ntu_raw"
)


@pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real recordings of ../shared/data are not on this machine"
)
def test_real_recordings_have_two_people_exactly_in_mutual_actions() -> None:
    source = open_source(SHARED)
    people = {clip.name: (clip.positions.shape[3], clip.label + 1) for clip in source.clips}
    assert len(people) == 77
    assert not source.problems
    assert all(
        (count == 2) == (50 <= action <= 60 or action >= 106) for count, action in people.values()
    )
