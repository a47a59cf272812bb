import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from slim_fast.data.convert import convert
from slim_fast.data.readers import open_source
from slim_fast.data.readers.matlab import read_matlab_frames
from slim_fast.errors import UserError

SHARED = (
    Path(os.environ.get("SLIM_FAST_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    / "data"
    / "utd_mhad.npz"
)


def test_joints_frames_and_names(tmp_path) -> None:
    joints = np.arange(20 * 3 * 4, dtype=float).reshape(20, 3, 4)
    savemat(tmp_path / "a27_s2_t4_skeleton.mat", {"d_skel": joints})
    savemat(tmp_path / "A1_S1_T1_skeleton.mat", {"d_skel": joints}, do_compression=True)
    savemat(tmp_path / "a1_s1_t1_inertial.mat", {"d_iner": np.ones((9, 6))})
    source = open_source(tmp_path)
    clips = {clip.name: clip for clip in source.clips}
    assert sorted(clips) == ["A1_S1_T1", "a27_s2_t4"]
    clip = clips["a27_s2_t4"]
    assert (clip.label, clip.subject, clip.split) == (26, 2, {"xsub": "test"})
    assert source.classes[26] == "squat"
    assert clips["A1_S1_T1"].split == {"xsub": "train"}
    assert clip.positions.shape == (4, 20, 3, 1)
    # number of joint v, axis c, frame t is 12 v + 4 c + t
    assert clip.positions[3, 2, 1, 0] == 12 * 2 + 4 * 1 + 3
    assert source.topology.name == "utd-mhad-20"


def test_what_is_no_clip_is_a_problem(tmp_path) -> None:
    good = np.ones((20, 3, 5))
    savemat(tmp_path / "a1_s1_t1_skeleton.mat", {"d_skel": good})
    content = (tmp_path / "a1_s1_t1_skeleton.mat").read_bytes()
    (tmp_path / "a1_s1_t2_skeleton.mat").write_bytes(content[:400])
    (tmp_path / "a1_s1_t3_skeleton.mat").write_bytes(b"")
    (tmp_path / "a1_s1_t4_skeleton.mat").write_bytes(b"hello" * 99)
    savemat(tmp_path / "a1_s1_t5_skeleton.mat", {"other": good})
    savemat(tmp_path / "a1_s1_t6_skeleton.mat", {"d_skel": good[:19]})
    savemat(tmp_path / "a1_s1_t7_skeleton.mat", {"d_skel": np.array([["text"]], object)})
    savemat(tmp_path / "a28_s1_t1_skeleton.mat", {"d_skel": good})
    # the header of MATLAB 7.3, whose rest is HDF5
    header = b"MATLAB 7.3 MAT-file".ljust(116) + b"\0" * 8 + struct.pack("<HH", 0x0200, 0x4D49)
    (tmp_path / "a1_s1_t8_skeleton.mat").write_bytes(header + b"\x89HDF" * 200)
    savemat(tmp_path / "a1_s1_t9_skeleton.mat", {"d_skel": np.ones((2, 3))}, format="4")
    source = open_source(tmp_path)
    assert [clip.name for clip in source.clips] == ["a1_s1_t1"]
    shape = "no d_skel of shape 20 x 3 x frames"
    assert {problem.item: problem.reason for problem in source.problems} == {
        "a1_s1_t2": "no file of MATLAB 5 to 7.2, or cut short",
        "a1_s1_t3": "an empty file",
        "a1_s1_t4": "no file of MATLAB 5 to 7.2, or cut short",
        "a1_s1_t5": shape,
        "a1_s1_t6": shape,
        "a1_s1_t7": shape,
        "a1_s1_t8": "a MATLAB 7.3 file: save it with '-v7'",
        "a1_s1_t9": "no file of MATLAB 5 to 7.2, or cut short",
        "a28_s1_t1": "action outside a1..a27",
    }


def mat(order: str, *parts: tuple[int, bytes]) -> bytes:
    """A file of MATLAB 5 with one matrix of these elements."""
    inner = b"".join(
        struct.pack(f"{order}II", kind, len(part)) + part + b"\0" * (-len(part) % 8)
        for kind, part in parts
    )
    header = b"MATLAB 5.0".ljust(124) + struct.pack(f"{order}HH", 0x100, 0x4D49)
    return header + struct.pack(f"{order}II", 14, len(inner)) + inner


@pytest.mark.parametrize("order", "<>")
def test_numbers_as_matlab_stores_them(order: str) -> None:
    """Whole numbers of class double in fewer bytes, either byte order, and names of one byte."""
    flags, sizes = struct.pack(f"{order}II", 6, 0), struct.pack(f"{order}3i", 2, 1, 3)
    numbers = np.arange(6).astype(f"{order}i2").tobytes()
    content = mat(order, (6, flags), (5, sizes), (1, b"long name"), (3, numbers))
    array = read_matlab_frames(content, "long name", 2, 1)
    assert array[:, 0].tolist() == [[0, 2, 4], [1, 3, 5]]
    small = struct.pack(f"{order}I", 1 << 16 | 1) + b"x\0\0\0"
    head = content.index(struct.pack(f"{order}II", 1, 9))
    short = content[:head] + small + content[head + 24 :]
    short = short[:132] + struct.pack(f"{order}I", len(short) - 136) + short[136:]
    assert (read_matlab_frames(short, "x", 2, 1) == array).all()


@pytest.mark.parametrize("kind", [8, 14, 0x3D09, 2**31])
def test_a_type_that_does_not_exist(kind: int) -> None:
    """Of the numbers: scipy.io.loadmat 1.17 takes 0x3d09 for an address, and the process ends."""
    flags, sizes = struct.pack("<II", 6, 0), struct.pack("<3i", 20, 3, 1)
    content = mat("<", (6, flags), (5, sizes), (1, b"d_skel"), (kind, bytes(480)))
    with pytest.raises(UserError, match="no file of MATLAB 5"):
        read_matlab_frames(content, "d_skel", 20, 3)


def test_what_expands_to_more_than_any_recording() -> None:
    """A few kilobytes that hold the head of a recording, and then a gigabyte."""
    squeeze = zlib.compressobj(9)
    whole = mat(
        "<", (6, struct.pack("<II", 6, 0)), (5, struct.pack("<3i", 20, 3, 9)), (1, b"d_skel")
    )
    parts = [squeeze.compress(whole[128:] + struct.pack("<II", 9, 1 << 30))]
    parts += [squeeze.compress(bytes(1 << 20)) for _ in range(1 << 7)] + [squeeze.flush()]
    content = b"".join(parts)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="no file of MATLAB 5"):
            read_matlab_frames(
                whole[:128] + struct.pack("<II", 15, len(content)) + content, "d_skel", 20, 3
            )
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(not SHARED.exists(), reason=f"{SHARED} is not here (private recordings)")
def test_the_npz_and_the_mat_files_of_real_recordings_mean_the_same(tmp_path) -> None:
    with np.load(SHARED) as data:
        content = {name: data[name] for name in data.files}
    folder = tmp_path / "mat"
    folder.mkdir()
    few = range(0, 861, 60)
    for i in few:
        first, length = int(content["start"][i]), int(content["length"][i])
        frames = content["x"][first : first + length, :, :, 0].astype(float)
        name = f"a{content['label'][i] + 1}_s{content['subject'][i]}_t{i}"
        savemat(folder / f"{name}_skeleton.mat", {"d_skel": frames.transpose(1, 2, 0)})
    cache = convert(folder, tmp_path / "a").cache
    whole = convert(SHARED, tmp_path / "b").cache
    for i in few:
        (own,) = (j for j, name in enumerate(cache.names) if name.endswith(f"_t{i}"))
        (other,) = np.flatnonzero(whole.names == str(content["name"][i]))
        np.testing.assert_allclose(cache.clip(own), whole.clip(other), rtol=1e-6)
        assert cache.classes[cache.label[own]] == whole.classes[whole.label[other]]
        assert cache.splits["xsub"][own] == whole.splits["xsub"][other]
