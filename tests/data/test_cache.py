import errno
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slim_fast.data import CacheWriter, Clip, ClipCache, clean_clip
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology

NTU = get_topology("ntu-25")


def write(path: Path, *clips: Clip, **kwargs) -> ClipCache:
    with CacheWriter(path, NTU, **kwargs) as writer:
        for clip in clips:
            writer.add(clip)
    return ClipCache.open(path)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 2**32)),
        min_size=1,
        max_size=6,
    )
)
def test_what_goes_in_comes_out(tmp_path_factory, sizes) -> None:
    clips = []
    for number, (frames, people, seed) in enumerate(sizes):
        rng = np.random.default_rng(seed)
        positions = rng.normal(size=(frames, 25, 3, people)) * rng.integers(
            0, 2, (frames, 1, 1, people)
        )
        clips.append(Clip(positions, f"ä{number}", number % 3, 5, number, 7))
    expected = [cleaned for cleaned, _ in map(clean_clip, clips) if cleaned is not None]
    path = tmp_path_factory.mktemp("caches") / "cache"
    if not expected:
        with pytest.raises(UserError, match="no usable clip"):
            write(path, *clips)
        assert list(path.parent.iterdir()) == []
        return
    cache = write(path, *clips)
    assert len(cache) == len(expected)
    for i, clip in enumerate(expected):
        np.testing.assert_array_equal(cache.clip(i), clip.positions)
        assert (
            cache.names[i],
            cache.label[i],
            cache.subject[i],
            cache.camera[i],
            cache.setup[i],
        ) == (clip.name, clip.label, clip.subject, clip.camera, clip.setup)
        # the layout others index: person m, frame t at start + m * length + t
        for m in range(cache.people[i]):
            first = cache.start[i] + m * cache.length[i]
            np.testing.assert_array_equal(
                cache.positions[first : first + cache.length[i]], clip.positions[..., m]
            )


def test_what_others_rely_on(tmp_path, walkers) -> None:
    sides = ["train", "test", "train"]
    clips = [
        Clip(walkers(3, seed=i), f"c{i}", label=i, split={"a": side})
        for i, side in enumerate(sides)
    ]
    clips[2].split = {"b": "test"}
    cache = write(tmp_path / "c", *clips, classes=["x", "y", "z"], source="here")
    assert cache.topology == NTU
    assert (cache.channels, cache.classes, cache.meta["source"]) == ("xyz", ("x", "y", "z"), "here")
    assert {name: code.tolist() for name, code in cache.splits.items()} == {
        "a": [1, 2, 0],
        "b": [0, 0, 2],
    }
    assert [part.tolist() for part in cache.split()] == [[0], [1]]
    assert [part.tolist() for part in cache.split("b")] == [[], [2]]
    assert all(
        getattr(cache, name).dtype == np.int64
        for name in ("start", "length", "people", "label", "subject")
    )
    with pytest.raises(UserError, match="no split 'c': choose one of a, b"):
        cache.split("c")
    with pytest.raises(ValueError, match="read-only"):
        cache.positions[0] = 1
    again = pickle.loads(pickle.dumps(cache))
    np.testing.assert_array_equal(again.clip(1), cache.clip(1))
    assert isinstance(again.positions, np.memmap)


def test_names_that_are_no_text_are_kept_as_escapes(tmp_path, walkers) -> None:
    odd, kept = os.fsdecode(b"\xff$"), "\\udcff$"  # a file name of another encoding
    cache = write(
        tmp_path / "c", Clip(walkers(), odd, 0, split={odd: "test"}), classes=[odd], source=odd
    )
    assert (cache.names.tolist(), cache.classes, list(cache.splits)) == ([kept], (kept,), [kept])
    assert cache.meta["source"] == kept


def test_classes_are_numbered_when_nobody_names_them(tmp_path, walkers) -> None:
    assert write(tmp_path / "c", Clip(walkers(), "a", label=2)).classes == ("0", "1", "2")
    cache = write(tmp_path / "d", Clip(walkers(), "a"))
    assert cache.classes == ()
    with pytest.raises(UserError, match="no train/test split"):
        cache.split()


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (Clip(np.ones((2, 17, 3, 1)), "a"), "'a' has 17 joints of 3 channels.*needs 25 of 3"),
        (Clip(np.ones((2, 25, 2, 1)), "a"), "'a' has 25 joints of 2 channels"),
        (Clip(np.ones((2, 25, 3, 1)), "a", label=2), r"'a' has label 2, outside 0\.\.1"),
        (Clip(np.ones((2, 25, 3, 1)), "a", label=-2), "'a' has label -2"),
        (Clip(np.ones((2, 25, 3, 1)), "a", split={"s": "val"}), "must be 'train' or 'test'"),
    ],
)
def test_wrong_clips_are_named_and_leave_nothing(tmp_path, walkers, clip, message) -> None:
    with pytest.raises(UserError, match=message):
        write(tmp_path / "c", Clip(walkers(), "fine"), clip, classes=["x", "y"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError(errno.EIO, "I/O error")])
def test_nothing_is_left_after_an_exception(tmp_path, walkers, error) -> None:
    with pytest.raises(BaseException), CacheWriter(tmp_path / "c", NTU) as writer:  # noqa: B017, PT011, PT012
        writer.add(Clip(walkers(), "a"))
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_writer_never_entered_leaves_nothing(tmp_path) -> None:
    writer = CacheWriter(tmp_path / "c", NTU)
    assert len(list(tmp_path.iterdir())) == 1
    del writer
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence(tmp_path, walkers, monkeypatch) -> None:
    class FullDisk:
        def write(self, data) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    def write() -> None:
        with CacheWriter(tmp_path / "c", NTU) as writer:
            writer._file.close()
            writer._file = FullDisk()  # type: ignore[assignment]
            writer.add(Clip(walkers(), "a"))

    with pytest.raises(UserError, match=r"cannot write .*No space left"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_only_caches_are_overwritten_and_only_by_finished_ones(tmp_path, walkers) -> None:
    path = tmp_path / "c"
    write(path, Clip(walkers(), "old"))
    with pytest.raises(UserError, match=r"exists.*--overwrite"):
        write(path, Clip(walkers(), "new"))
    with pytest.raises(UserError, match="no usable clip"):
        write(path, Clip(np.zeros((1, 25, 3, 1)), "empty"), overwrite=True)
    assert ClipCache.open(path).names.tolist() == ["old"]
    assert write(path, Clip(walkers(), "new"), overwrite=True).names.tolist() == ["new"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_text("x")
    with pytest.raises(UserError, match="is not a clip cache"):
        write(tmp_path / "photos", Clip(walkers(), "new"), overwrite=True)
    assert (tmp_path / "photos" / "me.jpg").exists()


def test_output_below_a_file_is_one_sentence(tmp_path, walkers) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        write(tmp_path / "file" / "c", Clip(walkers(), "a"))


@pytest.mark.parametrize(
    "damage", ["cut positions", "cut clips", "cut meta", "no clips", "other format", "more rows"]
)
def test_damaged_caches_are_refused(tmp_path, walkers, damage) -> None:
    path = tmp_path / "c"
    write(path, Clip(walkers(), "a"), Clip(walkers(), "b"))
    for name in ("positions.npy", "clips.npz", "meta.json"):
        if damage == f"cut {name.split('.')[0]}":
            whole = (path / name).read_bytes()
            (path / name).write_bytes(whole[: len(whole) // 2])
    if damage == "no clips":
        (path / "clips.npz").unlink()
    if damage == "other format":
        meta = json.loads((path / "meta.json").read_text())
        (path / "meta.json").write_text(json.dumps(meta | {"format": "slim_fast clips 99"}))
    if damage == "more rows":
        np.save(path / "positions.npy", np.zeros((99, 25, 3), np.float32))
    with pytest.raises(UserError, match="convert"):
        ClipCache.open(path)
