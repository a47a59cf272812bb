"""Data sets of many files: in parallel, and again after an interrupt."""

import os
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest

from slim_fast.data import CacheWriter, ClipCache
from slim_fast.data.cli import main
from slim_fast.data.convert import convert, kept_folder
from slim_fast.data.readers import Options, open_source, recordings
from slim_fast.data.readers.kept import KeptBatches, write_batch
from slim_fast.data.readers.source import Problem
from slim_fast.errors import UserError

CLIPS, BAD, STOP_AT = 40, 5, 20


def test_a_kept_batch_with_characters_that_do_not_exist(tmp_path) -> None:
    path = KeptBatches(tmp_path, "0" * 32).path(0)
    items = np.array('[{"item": "a", "reason": "b"}]')
    for last, found in ((ord("]"), [Problem("a", "b")]), (0x110000, None)):
        items.reshape(1).view("u4")[-1] = last
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, items=items)
        assert KeptBatches(tmp_path, "0" * 32).load(0) == found


@pytest.fixture
def folder(tmp_path, walkers, write_skeleton) -> Path:
    """40 NTU recordings, in three batches, of which the sixth is cut short."""
    where = tmp_path / "in"
    where.mkdir()
    for number in range(CLIPS):
        people = walkers(12, seed=number)
        frames = [{7: people[t, :, :, 0]} for t in range(12)]
        path = where / f"S001C001P001R{number:03d}A001.skeleton"
        text = write_skeleton(path, frames)
        if number == BAD:
            path.write_bytes(text[:500])
    return where


@pytest.fixture
def written(monkeypatch) -> list[Path]:
    """Batches that were read, and not taken from what was kept."""
    paths: list[Path] = []

    def note(path: Path, results: list) -> None:
        paths.append(path)
        write_batch(path, results)

    monkeypatch.setattr(recordings, "write_batch", note)
    return paths


@pytest.fixture
def interrupt(monkeypatch) -> None:
    """Ctrl-C when the 21st clip is written."""
    add = CacheWriter.add

    def stop(self: CacheWriter, clip: object) -> None:
        if len(self._names) == STOP_AT:
            raise KeyboardInterrupt
        add(self, clip)

    monkeypatch.setattr(CacheWriter, "add", stop)


def content(path: Path) -> list[bytes]:
    cache = ClipCache.open(path)
    return [cache.positions.tobytes(), *map(str.encode, cache.names), cache.label.tobytes()]


@pytest.mark.usefixtures("interrupt")
def test_a_stopped_conversion_goes_on_where_it_was(
    tmp_path, folder, written, capsys, monkeypatch
) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(folder), str(out)]) == 130
    error = capsys.readouterr().err
    assert error == (
        f"stopped by Ctrl-C: nothing was written; what was read is in {kept_folder(out)}, and the "
        "same command goes on from there\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.unfinished"]
    assert [path.name for path in written] == ["000000.npz", "000001.npz"]
    monkeypatch.undo()
    monkeypatch.setattr(recordings, "write_batch", lambda path, _: written.append(path))
    assert main(["convert", str(folder), str(out)]) == 0
    assert [path.name for path in written[2:]] == ["000002.npz"]
    printed = capsys.readouterr()
    assert "1 clips skipped: 1 truncated" in printed.out
    assert "skipped S001C001P001R005A001: truncated" in printed.err
    convert(folder, tmp_path / "whole")
    assert content(out) == content(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "whole"]


@pytest.mark.usefixtures("interrupt")
def test_files_that_changed_meanwhile_are_read_again(
    tmp_path, folder, written, monkeypatch, walkers, write_skeleton
) -> None:
    with pytest.raises(KeyboardInterrupt):
        convert(folder, tmp_path / "out")
    kept = kept_folder(tmp_path / "out")
    people = walkers(12, seed=BAD)
    # the file that was cut short has come whole
    frames = [{7: people[t, :, :, 0]} for t in range(12)]
    write_skeleton(folder / f"S001C001P001R{BAD:03d}A001.skeleton", frames)
    monkeypatch.undo()
    done = convert(folder, tmp_path / "out")
    assert (len(done.cache), done.problems) == (CLIPS, [])
    assert not kept.exists()


@pytest.mark.usefixtures("interrupt")
def test_a_damaged_batch_is_read_again(tmp_path, folder, monkeypatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        convert(folder, tmp_path / "out")
    for batch in kept_folder(tmp_path / "out").glob("*/*.npz"):
        os.truncate(batch, 999)
    monkeypatch.undo()
    assert len(convert(folder, tmp_path / "out").cache) == CLIPS - 1


def test_a_mistake_keeps_nothing(tmp_path, folder) -> None:
    with pytest.raises(UserError):
        convert(folder, tmp_path / "out", Options(channels="xy"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_folder_of_that_name_with_something_else_in_it_stays(tmp_path, folder) -> None:
    own = kept_folder(tmp_path / "out")
    (own / "holiday").mkdir(parents=True)
    (own / "notes.txt").write_text("mine")
    convert(folder, tmp_path / "out")
    assert sorted(path.name for path in own.iterdir()) == ["holiday", "notes.txt"]


def test_processes_read_the_same_in_the_same_order(tmp_path, folder) -> None:
    (folder / "S001C001P001R099A001.skeleton").write_bytes(b"no")
    convert(folder, tmp_path / "one")
    two = convert(folder, tmp_path / "two", Options(workers=2))
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert [problem.item[-8:] for problem in two.problems] == ["R005A001", "R099A001"]
    assert not kept_folder(tmp_path / "two").exists()


def test_after_the_end_of_a_worker_it_goes_on(tmp_path, folder, written, monkeypatch) -> None:
    out, first = tmp_path / "out", [0]

    class Done:
        def __init__(self, value: object) -> None:
            self.value = value

        def result(self) -> object:
            return self.value

    class Pool:
        """Runs in this process, and breaks at the third batch."""

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def submit(self, run, *arguments) -> Done:
            first[0] += 1
            if first[0] == 3:
                raise BrokenProcessPool
            return Done(run(*arguments))

        def shutdown(self, **_: object) -> None:
            pass

    monkeypatch.setattr(recordings, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(recordings, "Future", Done)
    with pytest.raises(UserError, match="a worker process ended early"):
        convert(folder, out, Options(workers=2))
    assert len(list(kept_folder(out).glob("*/*.npz"))) == 2
    assert len(convert(folder, out).cache) == CLIPS - 1
    assert [path.name for path in written] == ["000000.npz", "000001.npz", "000002.npz"]


def test_batches_come_back_as_they_were(tmp_path, folder) -> None:
    clips = list(open_source(folder).clips)[:2]
    problem = Problem("caf\udce9", "why", is_recording=False)
    kept = KeptBatches(tmp_path / "kept", "0" * 64)
    assert kept.load(3) is None
    write_batch(kept.path(3), [clips[0], problem, clips[1]])
    found = KeptBatches(tmp_path / "kept", "0" * 64).load(3)
    assert found is not None
    assert found[1] == problem
    for before, after in zip(clips, (found[0], found[2]), strict=True):
        assert not isinstance(after, Problem)
        np.testing.assert_array_equal(before.positions, after.positions)
        assert (before.name, dict(before.split)) == (after.name, after.split)
    assert KeptBatches(tmp_path / "kept", "1" * 64).load(3) is None
    assert not (tmp_path / "kept").exists()


def test_batches_are_of_16_recordings_or_32_megabytes() -> None:
    items = [recordings.Recording((), str(i)) for i in range(40)]
    lengths = [len(batch) for batch in recordings._make_batches(items, [1] * 40)]
    assert lengths == [16, 16, 8]
    sizes = [20 << 20, 20 << 20, 10 << 20, 99 << 20, *[0] * 36]
    batches = recordings._make_batches(items, sizes)
    assert [len(batch) for batch in batches] == [1, 2, 1, 16, 16, 4]
    assert [item for batch in batches for item in batch] == items
    assert list(map(list, recordings._make_batches([], []))) == [[]]
