from pathlib import Path

import numpy as np
import pytest

from slim_fast.data.readers import open_source
from slim_fast.data.readers.pku_mmd import ACTIONS, find_phase, read_split
from slim_fast.data.readers.source import Problem
from slim_fast.errors import UserError


def write_sequence(folder: Path, name: str, labels: str | None, frames: int = 30) -> None:
    """Number n of frame t is t + n / 1000; the second person is there from frame 20 on."""
    numbers = np.arange(frames)[:, None] + 1 + np.arange(150) / 1000
    numbers[:20, 75:] = 0
    (folder / "Data").mkdir(exist_ok=True)
    (folder / "Label").mkdir(exist_ok=True)
    np.savetxt(folder / "Data" / f"{name}.txt", numbers, "%.3f")
    if labels is not None:
        (folder / "Label" / f"{name}.txt").write_text(labels)


def test_sequences_are_cut_by_their_labels(tmp_path) -> None:
    write_sequence(tmp_path, "0002-M", "8,3,7,2\n51,18,25,1\n")
    source = open_source(tmp_path)
    first, second = source.clips
    assert (first.name, first.label, first.camera) == ("0002-M_000", 7, 2)
    assert (second.name, second.label, second.camera) == ("0002-M_001", 50, 2)
    assert source.classes[7] == "drink water"
    assert source.classes[50] == "writing"
    assert source.num_clips == 2
    assert source.topology.name == "ntu-25"
    # from row 3 up to row 7, both included: joint 1 of the first person is numbers 3 to 5
    assert first.positions.shape == (5, 25, 3, 2)
    np.testing.assert_allclose(first.positions[0, 1, :, 0], [4.003, 4.004, 4.005], rtol=1e-6)
    assert not first.positions[..., 1].any()
    # the second person begins with number 75
    np.testing.assert_allclose(second.positions[2, 0, :, 1], [21.075, 21.076, 21.077], rtol=1e-6)
    assert not second.positions[:2, ..., 1].any()


def test_published_splits_of_both_phases(tmp_path) -> None:
    for name in ("0002-L", "0003-R", "A01N02-M"):
        write_sequence(tmp_path, name, "1,0,9,1")
    (tmp_path / "Split").mkdir()
    (tmp_path / "Split" / "cross-subject.txt").write_text(
        "Training videos: \n0002-L, 0009-L\n\nValidataion videos: \n0003-R, \n"
    )
    (tmp_path / "Split" / "cross-view.txt").write_text(
        "Training videos: \n0003-R\nValidataion videos: \n0002-L"
    )
    (tmp_path / "cross_subject_v2.txt").write_text(
        "Training videos:\nA01N02-M\nValidation videos:\n"
    )
    source = open_source(tmp_path)
    assert {clip.name: dict(clip.split) for clip in source.clips} == {
        "0002-L_000": {"pku-mmd-1-xsub": "train", "pku-mmd-1-xview": "test"},
        "0003-R_000": {"pku-mmd-1-xsub": "test", "pku-mmd-1-xview": "train"},
        "A01N02-M_000": {"pku-mmd-2-xsub": "train"},
    }
    assert source.problems == [
        Problem("0009-L", "in cross-subject.txt, but no such sequence is here", False)
    ]
    assert source.warnings == []


def test_without_split_files_the_user_is_told_where_they_go(tmp_path) -> None:
    write_sequence(tmp_path, "0002-L", "1,0,9,1")
    source = open_source(tmp_path)
    assert [dict(clip.split) for clip in source.clips] == [{}]
    assert "1 of 1 sequences are in no split: put cross-subject.txt" in source.warnings[0]


def test_a_split_file_without_names_is_one_sentence(tmp_path) -> None:
    write_sequence(tmp_path, "0002-L", "1,0,9,1")
    (tmp_path / "cross-view.txt").write_text("404: not found")
    with pytest.raises(UserError, match=r"cross-view\.txt names no sequences"):
        open_source(tmp_path)


def test_what_cannot_be_cut_is_a_problem(tmp_path) -> None:
    write_sequence(tmp_path, "0002-L", "52,0,9,1\n1,0,9,1\n2,9,5,1\n3,30,40,1\n4,25,99,1\n0,1,2,1")
    write_sequence(tmp_path, "0003-L", None)
    write_sequence(tmp_path, "0004-L", "1,0,9,1")
    (tmp_path / "Data" / "0004-L.txt").write_text(" ".join(["0.5"] * 150) + "\n0.5 0.5")
    write_sequence(tmp_path, "0005-L", "one,0,9,1")
    write_sequence(tmp_path, "0006-L", "1,0,9,1")
    (tmp_path / "Data" / "0006-L.txt").unlink()
    source = open_source(tmp_path)
    lengths = {clip.name: len(clip.positions) for clip in source.clips}
    assert lengths == {"0002-L_001": 10, "0002-L_004": 5}  # to the sequence's end
    assert {problem.item: problem.reason for problem in source.problems} == {
        "0006-L": "labels without a sequence",
        "0002-L_000": "class outside 1..51",
        "0002-L_002": "an action outside its sequence",
        "0002-L_003": "an action outside its sequence",
        "0002-L_005": "class outside 1..51",
        "0003-L": "a sequence without a label file",
        "0004-L": "no table of numbers, or cut short",
        "0005-L": "a label file with a line that is not class,begin,end,confidence",
    }


def test_facts() -> None:
    assert len(ACTIONS) == len(set(ACTIONS)) == 51
    assert list(map(find_phase, ("0002-L_003", "A01N02-M", "S001C001P001R001A001"))) == [1, 2, 0]


def test_split_files_may_be_spelt_as_they_like(tmp_path) -> None:
    (tmp_path / "s.txt").write_text("training videos:a01n01-l ,A01N02-R\ntesting videos:\n0001-M\n")
    assert read_split(tmp_path / "s.txt") == {
        "A01N01-L": "train",
        "A01N02-R": "train",
        "0001-M": "test",
    }
