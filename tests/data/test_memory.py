"""Converting takes constant memory: the peak of a fresh process, for inputs larger than the
limit.
"""

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

LIMIT_MB = 200
REPOSITORY = Path(__file__).resolve().parents[2]
MEASURE = """
import sys
from pathlib import Path
from slim_fast.data.cli import main
assert main(sys.argv[1:]) == 0
status = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in status if "VmHWM" in line))
"""

pytestmark = pytest.mark.skipif(
    not os.path.exists("/proc/self/status"), reason="the peak is read from Linux's /proc"
)


def peak_mb(*arguments: object) -> float:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, arguments)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout.splitlines()[-1]) / 1024


def header(shape: tuple[int, ...]) -> bytes:
    text = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def test_train_test_npz_of_a_gigabyte(tmp_path) -> None:
    clips, block = 6400, np.zeros((64, 300, 150), np.float32)  # 1.15 GB
    block[:, :40] = np.random.default_rng(0).normal(size=150)
    with zipfile.ZipFile(
        tmp_path / "NTU60_CS.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive:
        with archive.open("x_train.npy", "w", force_zip64=True) as member:
            member.write(header((clips, 300, 150)))
            for _ in range(clips // 64):
                member.write(block.data)
        with archive.open("y_train.npy", "w") as member:
            member.write(
                header((clips, 60)) + np.eye(60, dtype=np.float32)[np.arange(clips) % 60].tobytes()
            )
    assert peak_mb("convert", tmp_path / "NTU60_CS.npz", tmp_path / "out") < LIMIT_MB


@pytest.mark.parametrize(
    "protocol", [2, *(pytest.param(n, marks=pytest.mark.long) for n in (4, 5))]
)
def test_pickle_larger_than_the_limit(tmp_path, protocol) -> None:
    keypoint = np.zeros((1, 1500, 25, 3), np.float16)  # 225 kB
    keypoint[:, :10] = np.random.default_rng(0).normal(size=(25, 3)).astype(np.float16)
    with open(tmp_path / "a.pkl", "wb") as file:
        pickler = pickle.Pickler(file, protocol)
        pickler.fast = True  # no memo, which would make the arrays one
        pickler.dump(
            {
                "annotations": [
                    {"frame_dir": str(i), "label": 0, "keypoint": keypoint} for i in range(1200)
                ]
            }
        )
    assert os.path.getsize(tmp_path / "a.pkl") > 1.2 * LIMIT_MB * 1e6
    assert peak_mb("convert", tmp_path / "a.pkl", tmp_path / "out") < LIMIT_MB


def test_npy_larger_than_the_limit(tmp_path) -> None:
    clips, row = 2000, 3 * 300 * 25 * 2
    with open(tmp_path / "train_data_joint.npy", "wb") as file:
        file.write(header((clips, 3, 300, 25, 2)))
        start = file.tell()
        for clip in range(clips):  # a sparse file: one frame a clip
            file.seek(start + clip * row * 4)
            file.write(np.ones(50, np.float32).tobytes())
        file.truncate(start + clips * row * 4)
    with open(tmp_path / "train_label.pkl", "wb") as file:
        pickle.dump(([str(i) for i in range(clips)], [0] * clips), file)
    assert peak_mb("convert", tmp_path, tmp_path / "out", "--topology", "ntu-25") < LIMIT_MB
