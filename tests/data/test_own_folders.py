from pathlib import Path

import pytest

from slim_fast.data.readers.own_folders import describe_clips, group_frames
from slim_fast.data.readers.source import Problem
from slim_fast.errors import UserError

FILES = {"a": (Path("a.csv"),), "more/b": (Path("b.csv"),), "c": (Path("c.csv"),)}


def describe(folder: Path, table: str, problems: list[Problem] | None = None) -> dict[str, tuple]:
    (folder / "labels.csv").write_text(table)
    found = describe_clips(folder, FILES, [] if problems is None else problems)
    return {
        one.name: (
            found.classes[one.label] if found.classes and one.label >= 0 else one.label,
            one.subject,
            dict(one.split),
        )
        for one in found.recordings
    }


def test_a_table_has_the_labels(tmp_path) -> None:
    problems: list[Problem] = []
    table = "Name,Performer,label,set\na,3,wave,train\nmore\\b,4,clap,val\nd,1,wave,test\n"
    assert describe(tmp_path, table, problems) == {
        "a": ("wave", 3, {"default": "train"}),
        "more/b": ("clap", 4, {}),  # a validation subset beside a test subset
        "c": (-1, -1, {}),
    }
    assert problems == [
        Problem("d", "in labels.csv, but no such clip is here", False),
        Problem("c", "without a row in labels.csv", False),
    ]


def test_labels_may_be_numbers(tmp_path) -> None:
    found = describe(tmp_path, "name,label\na,7\nmore/b,0\nc,\n")
    assert found == {"a": (7, -1, {}), "more/b": (0, -1, {}), "c": (-1, -1, {})}


def test_without_a_table_folders_tell(tmp_path) -> None:
    names = ("train/wave/a", "test/clap/anna/b", "sit/c", "d", "val/e")
    found = describe_clips(tmp_path, {name: () for name in names}, [])
    assert found.classes == ("clap", "sit", "wave")
    assert {one.name: (one.label, dict(one.split)) for one in found.recordings} == {
        "train/wave/a": (2, {"default": "train"}),
        "test/clap/anna/b": (0, {"default": "test"}),
        "sit/c": (1, {}),
        "d": (-1, {}),
        "val/e": (-1, {}),
    }


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("", "needs a header with a column 'name'"),
        ("label\n1\n", "needs a header with a column 'name'"),
        ("name,label\na\n", "1 cells in row 2, and 2 in the header"),
        ("name,label\na,1\na,2\n", "two rows for 'a'"),
        ("name,split\na,trian\n", "'trian' in .* is no subset of a split"),
        ("name,subject\na,anna\n", "'anna' in column subject of .* is no whole number"),
    ],
)
def test_mistakes_in_the_table_are_one_sentence(tmp_path, table, sentence) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        describe(tmp_path, table)
    assert "\n" not in str(error.value)


def test_what_is_no_text_is_one_sentence(tmp_path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"labels\.csv cannot be read: no text"):
        describe_clips(tmp_path, FILES, [])


def test_files_of_frames_are_clips_by_folder_or_by_name() -> None:
    root = Path("r")

    def files(*numbers: int) -> list[tuple[int, Path]]:
        return [(number, Path(f"{number}.json")) for number in numbers]

    def ordered(*numbers: int) -> tuple[Path, ...]:
        return tuple(Path(f"{number}.json") for number in numbers)

    by_folder = group_frames(root, {(root / "a", "x_"): files(10, 9), (root / "b", "y"): files(1)})
    assert by_folder == {"a": ordered(9, 10), "b": ordered(1)}
    by_name = group_frames(root, {(root / "a", "x_"): files(2, 1), (root / "a", "y_"): files(1)})
    assert by_name == {"a/x": ordered(1, 2), "a/y": ordered(1)}
    assert group_frames(root, {(root, ""): files(1)}) == {"r": ordered(1)}
    alike = group_frames(root, {(root / "a", "x-"): files(1), (root / "a", "x_"): files(2)})
    assert alike == {"a/x": ordered(1), "a/x_": ordered(2)}
