import json
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from slim_fast.data import ClipCache
from slim_fast.data.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]
A, B = 72057594037931101, 72057594037931102


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "slim_fast.data", *map(str, arguments)]


@pytest.fixture
def ntu_folder(tmp_path, walkers, write_skeleton) -> Path:
    folder = tmp_path / "ntu"
    folder.mkdir()
    for action in (1, 2, 50):
        people = walkers(20, people=2, seed=action)
        frames = [{A: people[t, :, :, 0], B: people[t, :, :, 1]} for t in range(20)]
        del frames[5][B]
        write_skeleton(folder / f"S001C002P003R001A{action:03d}.skeleton", frames)
    write_skeleton(folder / "S001C002P003R001A003.skeleton", [{}, {}])
    (folder / "S001C002P003R001A004.skeleton").write_bytes(b"\x00" * 99)
    (folder / "S001C002P003R001A005.skeleton").write_bytes(b"100 1")
    return folder


def test_convert_says_what_became_of_every_file(tmp_path, ntu_folder, capsys) -> None:
    assert main(["convert", str(ntu_folder), str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "3 clips (" in printed.out
    assert (
        "3 clips skipped: 1 no person in any frame, 1 not a skeleton file, 1 truncated"
        in printed.out
    )
    assert "skipped S001C002P003R001A004: not a skeleton file" in printed.err
    assert "split ntu60-xview: 3 train, 0 test" in printed.out
    assert "converting" not in printed.err  # no bar where there is no terminal
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert meta["skipped"] == {
        "no person in any frame": 1,
        "not a skeleton file": 1,
        "truncated": 1,
    }
    assert meta["cleaning"]["absent_person_frames"] == 3
    assert len(ClipCache.open(tmp_path / "out")) == 3
    assert main(["convert", str(ntu_folder), str(tmp_path / "out")]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["convert", str(ntu_folder), str(tmp_path / "out"), "--overwrite"]) == 0


def test_inspect_counts_and_draws(tmp_path, ntu_folder, capsys) -> None:
    pytest.importorskip("matplotlib")
    main(["convert", str(ntu_folder), str(tmp_path / "out")])
    assert main(["inspect", str(tmp_path / "out"), "--png", str(tmp_path / "sheet.png")]) == 0
    printed = capsys.readouterr().out
    assert "frames per clip: 20 to 20, median 20" in printed
    assert "people per clip: 2 in 3 clips" in printed
    assert "frames of all people: 120, the person absent in 3 (2.50%)" in printed
    assert "skipped clips: 3" in printed
    assert (tmp_path / "sheet.png").read_bytes()[:4] == b"\x89PNG"


def test_clips_that_lose_people_are_counted(tmp_path, walkers, capsys) -> None:
    crowd = walkers(people=3)
    np.savez(
        tmp_path / "c.npz",
        alone=crowd[..., :1],
        two=crowd[..., :2],
        three=crowd,
        four=walkers(people=4),
    )
    assert main(["convert", str(tmp_path / "c.npz"), str(tmp_path / "out")]) == 0
    assert (
        "2 clips have more than two people: evaluation and training take the two who"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "missing", "out"],
        ["convert", ".", "out"],
        ["convert", "notes.txt", "out"],
        ["convert", "empty.npz", "out"],
        ["convert", "garbage.pkl", "out"],
        ["convert", "garbage.npz", "out"],
        ["convert", "clips.npz", "notes.txt/out"],
        ["convert", "clips.npz", "notes.txt"],
        ["convert", "clips.npz", "out", "--topology", "octopus"],
        ["convert", "clips.npz", "out", "--topology", "coco-17"],
        ["convert", "clips.npz", "out", "--channels", "xy"],
        ["inspect", "notes.txt"],
        ["inspect", "missing"],
    ],
)
def test_mistakes_are_one_sentence(tmp_path, monkeypatch, capsys, walkers, arguments) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("hello")
    np.savez("empty.npz")
    np.savez("clips.npz", a=walkers())
    Path("garbage.pkl").write_bytes(b"\x80\x04garbage")
    Path("garbage.npz").write_bytes(b"PK\x03\x04garbage")
    before = sorted(tmp_path.iterdir())
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_what_was_looked_for_is_said(tmp_path, capsys) -> None:
    main(["convert", str(tmp_path), str(tmp_path / "out")])
    error = capsys.readouterr().err
    for format_ in (
        ".skeleton",
        "x_train",
        "PYSKL",
        "train_data_joint.npy",
        "npz whose members are clips",
    ):
        assert format_ in error


@pytest.mark.parametrize(
    "content", [b"zip", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x1f\x8b\x08"]
)
def test_an_archive_is_to_be_unpacked(tmp_path, capsys, content) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(content + b"0" * 99)
    if content == b"zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("S001C001P001R001A001.skeleton", "1")
    assert main(["convert", str(path), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        f"error: {path} is an archive: unpack it, and give the folder\n"
    )


def test_topologies_are_listed(capsys) -> None:
    assert main(["topologies"]) == 0
    assert {"ntu-25", "coco-17"} <= {
        line.split()[0] for line in capsys.readouterr().out.splitlines()
    }


@pytest.fixture
def long_conversion(tmp_path) -> list[str]:
    clip = np.random.default_rng(0).normal(size=(400, 64, 25, 3)).astype(np.float32)
    np.savez(
        tmp_path / "in.npz",
        **{f"x{i}": clip[0] for i in range(2)},
        clips=np.concatenate([clip] * 20),
    )
    return command("convert", tmp_path / "in.npz", tmp_path / "out")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")]
)
def test_stopping_leaves_nothing(tmp_path, long_conversion, number, status, word) -> None:
    process = subprocess.Popen(long_conversion, stderr=subprocess.PIPE, cwd=REPOSITORY, text=True)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("out.partial-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == status
    assert error.strip().splitlines() == [f"stopped by {word}: nothing was written"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.npz"]


@pytest.mark.skipif(os.name != "posix", reason="resource limits of POSIX")
def test_no_room_for_the_output_is_one_sentence(tmp_path, long_conversion) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20, 20 << 20))

    done = subprocess.run(
        long_conversion, preexec_fn=limit, stderr=subprocess.PIPE, cwd=REPOSITORY, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cannot write {tmp_path / 'out'}: File too large")
    assert done.stderr.count("\n") == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.npz"]
