"""Folders of files that were cut or garbled: clips or one sentence, and never a traceback."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slim_fast.data.readers import Options
from slim_fast.skeletons import get_topology
from tests.data import folder_formats
from tests.data.strategies import SETTINGS, told

FORMS: dict[str, tuple[Callable[[Path, list[np.ndarray]], Path], str, int]] = {
    "n_ucla": (folder_formats.n_ucla, "kinect-v1-20", 3),
    "pku_mmd": (folder_formats.pku_mmd, "ntu-25", 3),
    "utd_mhad": (folder_formats.utd_mhad, "utd-mhad-20", 3),
    "sbu": (folder_formats.sbu, "sbu-15", 3),
    "openpose": (folder_formats.openpose, "openpose-18", 2),
    "mediapipe": (folder_formats.mediapipe, "mediapipe-33", 3),
    "numbered_csv": (folder_formats.numbered_csv, "kinect-v1-20", 3),
}
# what is put in the place of others: what ends, begins or changes a value in one of the formats
PIECES = [b"", b"\0", b"\xff", b",", b"[", b"]", b"{", b'"', b"null", b"-1", b"1e999", b"nan"]
changes = st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(PIECES)), max_size=4)


@pytest.mark.parametrize("form", FORMS)
@settings(SETTINGS, max_examples=25)
@given(changes, st.integers(0, 10**6), st.booleans())
def test_garbled_and_cut(
    tmp_path_factory: pytest.TempPathFactory,
    form: str,
    pieces: list[tuple[int, bytes]],
    cut: int,
    is_told: bool,
) -> None:
    write, name, coordinates = FORMS[form]
    topology = get_topology(name)
    random = np.random.default_rng(0)
    clip = random.uniform(0.1, 2, (3, topology.num_joints, coordinates, 1)).astype("f4")
    folder = tmp_path_factory.mktemp("f") / "in"
    folder.mkdir()
    write(folder, [clip, clip])
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    for file in (files[0], files[-1]):
        content = bytearray(file.read_bytes())
        for place, piece in pieces:
            at = place % len(content)
            content[at : at + len(piece) // 2 + 1] = piece
        file.write_bytes(content if cut % 3 else content[: cut % len(content)])
    told(folder, Options(topology if is_told else None))
