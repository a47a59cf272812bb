"""Counts beside the published ones, and the list of missing skeletons."""

from pathlib import Path

import numpy as np
import pytest

from slim_fast.data import CacheWriter, Clip, ClipCache, audit
from slim_fast.data.audit import PUBLISHED, audit_cache
from slim_fast.data.cli import main
from slim_fast.data.missing import read_missing
from slim_fast.data.readers import pku_mmd, utd_mhad
from slim_fast.data.readers.ntu import parse_ntu_name
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology


def cache_of(path: Path, clips: list[Clip], topology: str, classes: tuple = ()) -> ClipCache:
    with CacheWriter(path, get_topology(topology), classes=classes) as writer:
        for clip in clips:
            writer.add(clip)
    return ClipCache.open(path)


def standing(joints: int) -> np.ndarray:
    return np.linspace(0.1, 1.7, 9 * joints * 3).reshape(9, joints, 3, 1)


def ntu_clip(name: str) -> Clip:
    numbers = parse_ntu_name(name)
    assert numbers is not None
    return Clip(standing(25), name, numbers.action - 1, numbers.subject, split=dict(numbers.splits))


def test_published_counts_add_up() -> None:
    for published in PUBLISHED:
        for train, test in published.splits.values():
            assert train + test == published.clips
    assert {one.title: one.clips for one in PUBLISHED if one.splits} == {
        "NTU RGB+D 60": 56_578,
        "NTU RGB+D 120": 113_945,
        "UTD-MHAD": 861,
    }


def test_counts_of_both_ntus(tmp_path) -> None:
    names = ["S001C001P001R001A001", "S002C002P003R001A001", "S018C001P008R001A061"]
    lines = audit_cache(cache_of(tmp_path / "c", list(map(ntu_clip, names)), "ntu-25"))
    assert lines == [
        "NTU RGB+D 60, counted and published:",
        "  clips                    2    56,578  differs",
        "  classes                  1        60  differs",
        "  subjects                 2        40  differs",
        "  ntu60-xsub train         1    40,091  differs",
        "  ntu60-xsub test          1    16,487  differs",
        "  ntu60-xview train        1    37,646  differs",
        "  ntu60-xview test         1    18,932  differs",
        "NTU RGB+D 120, counted and published:",
        "  clips                    3   113,945  differs",
        "  classes                  2       120  differs",
        "  subjects                 3       106  differs",
        "  ntu120-xsub train        2    63,026  differs",
        "  ntu120-xsub test         1    50,919  differs",
        "  ntu120-xset train        2    54,468  differs",
        "  ntu120-xset test         1    59,477  differs",
    ]
    # what is NTU-60 alone is not set beside NTU-120
    own = audit_cache(cache_of(tmp_path / "d", list(map(ntu_clip, names[:2])), "ntu-25"))
    assert own == lines[:8]


def test_whole_sets_agree_and_too_many_clips_are_explained(tmp_path, monkeypatch) -> None:
    small = audit.Published(
        "Small", PUBLISHED[0].find_clips, 1, 1, 1, {"ntu60-xsub": (1, 0), "ntu60-xview": (0, 1)}, 2
    )
    monkeypatch.setattr(audit, "PUBLISHED", (small,))
    one = ntu_clip("S001C001P001R001A001")
    lines = audit_cache(cache_of(tmp_path / "c", [one], "ntu-25"))
    assert lines[-1] == "  all as published"
    assert not any("differs" in line for line in lines)
    lines = audit_cache(cache_of(tmp_path / "d", [one, one], "ntu-25"))
    assert lines[-1] == (
        "  1 clips too many: leave out the 2 with missing skeletons (convert --missing FILE)"
    )
    lines = audit_cache(cache_of(tmp_path / "e", [one] * 4, "ntu-25"))
    assert lines[-1].endswith("differs")  # more than the list explains


def test_other_data_sets(tmp_path) -> None:
    actions = pku_mmd.ACTIONS
    clips = [Clip(standing(25), name, 4) for name in ("0002-L_000", "A01N02-M_000", "A01N02-M_001")]
    assert audit_cache(cache_of(tmp_path / "a", clips, "ntu-25", actions)) == [
        "PKU-MMD I, counted and published:",
        "  clips                    1    21,545  differs",
        "  classes                  1        51  differs",
        "PKU-MMD II, counted and published:",
        "  clips                    2",
        "  classes                  1        41  differs",
    ]
    clip = Clip(standing(20), "a1_s1_t1", 0, 1, split={"xsub": "train"})
    lines = audit_cache(cache_of(tmp_path / "b", [clip], "utd-mhad-20", utd_mhad.ACTIONS))
    assert lines[0] == "UTD-MHAD, counted and published:"
    assert "  xsub train               1       431  differs" in lines
    assert audit_cache(cache_of(tmp_path / "d", [clip], "utd-mhad-20")) == []


LIST = """\
The following samples have missing skeleton data:

S001C001P001R001A002.skeleton
s001c001p001r001a003
S017C003P020R002A060
"""


def test_listed_recordings_are_left_out(tmp_path, capsys, walkers, write_skeleton) -> None:
    people = walkers(12)
    for action in (1, 2, 3):
        path = tmp_path / "in" / f"S001C001P001R001A{action:03d}.skeleton"
        path.parent.mkdir(exist_ok=True)
        write_skeleton(path, [{7: people[t, :, :, 0]} for t in range(12)])
    path.write_bytes(b"1 1")  # one of the list that cannot be read either
    (tmp_path / "list.txt").write_text(LIST)
    out = str(tmp_path / "out")
    command = ["convert", str(tmp_path / "in"), out, "--missing", str(tmp_path / "list.txt")]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "2 clips skipped: 2 on the list of missing skeletons" in printed.out
    assert printed.err == ""
    assert ClipCache.open(out).names.tolist() == ["S001C001P001R001A001"]
    assert "  clips                    1    56,578  differs" in printed.out
    main(["inspect", out, "--png", str(tmp_path / "sheet.png")])
    assert "NTU RGB+D 60, counted and published:" in capsys.readouterr().out


def test_the_list_is_honoured_for_other_formats_too(tmp_path, walkers) -> None:
    np.savez(
        tmp_path / "ntu.npz", S001C001P001R001A002=walkers(12), S001C001P001R001A001=walkers(12)
    )
    (tmp_path / "list.txt").write_text(LIST)
    out = str(tmp_path / "out")
    command = ["convert", str(tmp_path / "ntu.npz"), out, "--missing", str(tmp_path / "list.txt")]
    assert main(command) == 0
    assert ClipCache.open(out).names.tolist() == ["S001C001P001R001A001"]


@pytest.mark.parametrize(
    ("content", "sentence"), [(None, "No such file"), ("<html>404</html>", "has no NTU name")]
)
def test_a_list_without_names_is_one_sentence(tmp_path, content, sentence) -> None:
    if content is not None:
        (tmp_path / "list.txt").write_text(content)
    with pytest.raises(UserError, match=sentence):
        read_missing(tmp_path / "list.txt")
