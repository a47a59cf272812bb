"""npz files that are damaged or must not be read, and reading them as streams."""

import builtins
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from slim_fast.data.cache import ClipCache
from slim_fast.data.convert import convert
from slim_fast.data.readers import Options, open_source
from slim_fast.data.readers import stream as stream_module
from slim_fast.data.readers.stream import ArrayStream
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology


@pytest.fixture
def forbid(monkeypatch):
    """Lets no file of a given name be opened, as for a user who must not read it (root may read
    everything).
    """
    allowed = builtins.open

    def forbid(name: str) -> None:
        def opened(path, *arguments, **options):
            if isinstance(path, str | Path) and Path(path).name == name:
                raise PermissionError(13, "Permission denied", str(path))
            return allowed(path, *arguments, **options)

        for module in (builtins, io):
            monkeypatch.setattr(module, "open", opened)

    return forbid


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.pkl"])
def test_sources_that_must_not_be_read_are_not_called_damaged(
    tmp_path, walkers, forbid, name
) -> None:
    np.savez(tmp_path / "a.npz", clips=walkers(9)[None, ..., 0])
    np.save(tmp_path / "a.npy", walkers(9).transpose(2, 0, 1, 3)[None])
    (tmp_path / "a.pkl").write_bytes(pickle.dumps((["a"], [0])))
    forbid(name)
    with pytest.raises(UserError, match=rf"{name}: Permission denied: mend its permissions$"):
        open_source(
            tmp_path / ("a.npz" if name == "a.npz" else "a.npy"), Options(get_topology("ntu-25"))
        )


def test_a_source_in_a_folder_that_must_not_be_searched(tmp_path, monkeypatch) -> None:
    def exists(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", exists)
    with pytest.raises(UserError, match=r"a\.npz: Permission denied: mend its permissions"):
        open_source(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.npz", "meta.json", "clips.npz", "positions.npy"])
def test_what_must_not_be_read_is_not_called_damaged(tmp_path, walkers, forbid, name) -> None:
    np.savez(tmp_path / "a.npz", clips=walkers(9)[None, ..., 0])
    cache = convert(tmp_path / "a.npz", tmp_path / "cache").cache.path
    forbid(name)
    read, path = (open_source, tmp_path / "a.npz") if name == "a.npz" else (ClipCache.open, cache)
    with pytest.raises(UserError, match=r"Permission denied: mend its permissions"):
        read(path)


@pytest.mark.parametrize("damage", ["cut", "garbled", "lying header", "not a zip"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_npz_are_one_sentence(tmp_path, walkers, damage, save) -> None:
    path = tmp_path / "a.npz"
    save(path, x_train=np.random.default_rng(0).normal(size=(50, 20, 75)))
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    if damage == "garbled":
        data[len(data) // 2 : len(data) // 2 + 100] = bytes(100)
    if damage == "not a zip":
        data = bytearray(b"nothing" * 99)
    path.write_bytes(data)
    if damage == "lying header":
        with zipfile.ZipFile(path, "w") as archive:
            header = (
                repr({"descr": "<f8", "fortran_order": False, "shape": (50, 20, 75)}).encode()
                + b"\n"
            )
            magic = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
            archive.writestr("x_train.npy", magic + header + bytes(99))
    with pytest.raises(UserError, match=r"cut short|damaged|no npz"):
        list(open_source(path).clips)


def test_streams_give_what_numpy_gives(tmp_path, monkeypatch) -> None:
    array = np.random.default_rng(0).normal(size=(23, 4, 5))
    np.save(tmp_path / "a.npy", array)
    for chunk in (1, 160, 1000, 1 << 20):
        monkeypatch.setattr(stream_module, "CHUNK_BYTES", chunk)
        np.testing.assert_array_equal(
            np.concatenate(list(ArrayStream(tmp_path / "a.npy").read_chunks())), array
        )
    np.testing.assert_array_equal(ArrayStream(tmp_path / "a.npy").read_all(), array)
    monkeypatch.setattr(stream_module, "MAX_ROW_BYTES", 100)
    with pytest.raises(UserError, match="cut it into shorter clips"):
        list(ArrayStream(tmp_path / "a.npy").read_chunks())
