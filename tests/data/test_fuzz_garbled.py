"""Readers on files that were cut, garbled or lie about their size."""

import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slim_fast.data.convert import convert
from slim_fast.data.readers import Options
from slim_fast.errors import UserError
from tests.data.strategies import SETTINGS, TOPOLOGIES, told


@SETTINGS
@given(
    st.sampled_from(["clips", "frames", "train and test", "npy", "pkl"]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    st.integers(0, 10**6),
)
def test_garbled_and_cut(
    tmp_path_factory: pytest.TempPathFactory, form: str, changes: list[tuple[int, int]], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("ntu")
    x = np.random.default_rng(0).normal(size=(2, 4, 25, 3)).astype("f4")
    path = folder / {"npy": "train_data.npy", "pkl": "ntu.pkl"}.get(form, "ntu.npz")
    if form == "clips":
        np.savez(path, clips=x, labels=np.arange(2), names=np.array(["a", "b"]))
    elif form == "frames":
        np.savez(path, x=x.reshape(8, 25, 3, 1), start=np.array([0, 4]), length=np.array([4, 4]))
    elif form == "train and test":
        np.savez(path, x_train=x.reshape(2, 4, 75), y_train=np.array(["a", "b"]))
    elif form == "npy":
        np.save(path, x.transpose(0, 3, 1, 2)[..., None])
        (folder / "train_label.pkl").write_bytes(pickle.dumps((["a", "b"], [0, 1])))
    else:
        path.write_bytes(
            pickle.dumps(
                {"split": {"train": ["a"]}, "annotations": [{"frame_dir": "a", "keypoint": x}]}
            )
        )
    whole = bytearray(path.read_bytes())
    for place, byte in changes:  # half of them near the end or the beginning, where headers are
        near = place // 2 % min(len(whole), 300)
        whole[place % len(whole) if place % 2 else near if place % 4 else len(whole) - 1 - near] = (
            byte
        )
    path.write_bytes(whole if cut % 3 else whole[: cut % len(whole)])
    told(path, Options(TOPOLOGIES[25]))


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4, 25, 3)}",
        "{'descr': '<U0', 'fortran_order': False, 'shape': (2, 4, 25, 3)}",
        "{'descr': '|S0', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 25, 3)",
        "'''",
        "(((",
    ],
)
@pytest.mark.parametrize("member", ["clips", "x_train", "labels"])
def test_lying_headers(tmp_path: Path, member: str, header: str) -> None:
    with zipfile.ZipFile(tmp_path / "ntu.npz", "w") as archive:
        text = header.encode() + b"\n"
        magic = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little")
        content = bytes(1 * 4 * 25 * 3 * 4) if "-1" in header else b""
        archive.writestr(f"{member}.npy", magic + text + content)
        if member == "labels":
            with archive.open("clips.npy", "w") as file:
                np.lib.format.write_array(file, np.ones((2, 4, 25, 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UserError):
            convert(tmp_path / "ntu.npz", tmp_path / "out", Options(TOPOLOGIES[25]))
