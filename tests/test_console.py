"""Every command on consoles that cannot show the names, and before readers that go away."""

import io
import json
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from slim_fast import SLiMClassifier, SLiMEncoder
from slim_fast.command import run_process
from slim_fast.data import CacheWriter
from slim_fast.data.clips import Clip
from slim_fast.model.encoder import EncoderConfig
from slim_fast.skeletons import get_topology

REPOSITORY = Path(__file__).resolve().parents[1]
WALKING = "步行"
TINY = (
    "--steps 2 --batch 4 --threads 1 --device cpu --model.encoder.width 16 --model.encoder.depth "
    "1 --model.encoder.heads 1 --model.head.hidden 16 --model.head.bottleneck 8 "
    "--model.head.prototypes 8 --views.window 16 --log.knn_every 1"
)
PACKAGES = ("data", "weights")
# name -> module, arguments in a folder with what the fixture `names` makes, and what it must print
COMMANDS = {
    "convert": ("data", "convert Ω.npz Ψ", "Ψ"),
    "inspect": ("data", "inspect Ω", WALKING),
    "topologies": ("data", "topologies", ""),
    "synthetic": ("data", "synthetic Σ --subjects 2 --repetitions 1", "Σ"),
    "pretrain": ("pretrain", f"--data Ω --out Λ {TINY}", "Λ"),
    "ablate": ("ablate", "objectives --data Ω --rows cl --seeds 1 --config Ω.yaml --out Ξ", "Ξ"),
    "evaluate": ("evaluate", "knn Ω-encoder --data Ω", ""),
    "report": ("report", "Ω-encoder --data Ω", "Ω"),
    "features": ("features", "Ω-encoder --data Ω --out Ω.npz", "Ω"),
    "weights": ("weights", "show Ω-encoder", "Ω"),
    "stream": ("stream", "Ω-encoder --data Ω --window 16 --out Ω.gif", WALKING),
    "watch": ("watch", "Ω.jsonl --model Ω-classifier --window 16 --out Ω-watch.jsonl", WALKING),
    "export": ("export", "Ω-encoder --to torch-export --no-check", "Ω"),
    "a mistake": ("data", "inspect Φ", "Φ"),
}


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> Path:
    """A folder with clips and classes, files and folders called in Greek and Chinese."""
    folder = tmp_path_factory.mktemp("names")
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(24, 20, 25, 3, 1)).astype(np.float32)
    with CacheWriter(folder / "Ω", get_topology("ntu-25"), classes=[WALKING, "ύπνος"]) as writer:
        for i, clip in enumerate(clips):
            writer.add(
                Clip(
                    clip,
                    f"клип{i}",
                    i % 2,
                    i // 4,
                    split={"διαχωρισμός": "test" if i > 19 else "train"},
                )
            )
    sizes = "model: {encoder: {width: 16, depth: 1, heads: 1}}\nviews: {window: 16}\n"
    (folder / "Ω.yaml").write_text(f"steps: 1\nbatch: 2\nthreads: 1\n{sizes}", "utf-8")
    np.savez(folder / "Ω.npz", **{f"{WALKING}{i}": clip for i, clip in enumerate(clips[:3])})
    torch.manual_seed(0)
    SLiMEncoder("ntu-25", config=EncoderConfig(width=16, depth=1, heads=1)).save_pretrained(
        folder / "Ω-encoder"
    )
    one = SLiMClassifier(
        1, "ntu-25", config=EncoderConfig(width=16, depth=1, heads=1), class_names=[WALKING]
    )
    one.save_pretrained(folder / "Ω-classifier")
    frames = [{"landmarks": rng.uniform(size=(1, 33, 4)).tolist()} for _ in range(24)]
    (folder / "Ω.jsonl").write_text("".join(f"{json.dumps(frame)}\n" for frame in frames))
    return folder


def command(
    names: Path, which: str, encoding: str = "utf-8", **options: object
) -> subprocess.Popen:
    module, arguments, _ = COMMANDS[which]
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "kernels")])
    return subprocess.Popen(
        [sys.executable, "-m", f"slim_fast.{module}", *arguments.split()],
        cwd=names,
        env=os.environ
        | {
            "PYTHONIOENCODING": encoding,
            "PYTHONPATH": paths,
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "",
        },
        stderr=subprocess.PIPE,
        **({"stdout": subprocess.PIPE} | options),
    )


@pytest.mark.parametrize("which", [name for name in COMMANDS if name != "inspect"])
def test_a_console_without_the_letters_gets_escapes(names, which, monkeypatch) -> None:
    module, arguments, letters = COMMANDS[which]
    program = import_module(f"slim_fast.{module}" + (".__main__" if module in PACKAGES else ""))
    out, error = (io.TextIOWrapper(io.BytesIO(), encoding="cp1252") for _ in range(2))
    monkeypatch.chdir(names)
    monkeypatch.setattr(sys, "argv", [module, *arguments.split()])
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", error)
    monkeypatch.setattr("slim_fast.command.stop_signals", list)
    assert run_process(program.main) == (2 if which == "a mistake" else 0)
    error.flush()
    written = out.buffer.getvalue() + error.buffer.getvalue()
    assert letters.encode("ascii", "backslashreplace") in written


def test_so_it_is_in_a_process_of_its_own(names) -> None:
    done = command(names, "inspect", encoding="ascii")
    out, error = done.communicate(timeout=120)
    assert done.returncode == 0
    assert b"Traceback" not in error, error.decode()
    assert WALKING.encode("ascii", "backslashreplace") in out


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize("which", ["topologies", "inspect", "evaluate"])
def test_a_reader_that_goes_away_is_no_error(names, which) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = command(names, which, stdout=writing)
    os.close(writing)
    error = done.communicate(timeout=120)[1]
    assert b"Broken" not in error, error.decode()
    assert done.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_output_that_cannot_be_written_is_one_sentence(names) -> None:
    with open("/dev/full", "wb") as full:
        done = command(names, "topologies", stdout=full)
        error = done.communicate(timeout=120)[1]
    assert error.startswith(b"error: ")
    assert b"No space left on device" in error
    assert error.count(b"\n") == 1
    assert done.returncode == 2


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_in_the_middle_of_a_report_is_no_traceback(names) -> None:
    code = "import sys, os, signal; from slim_fast.command import run_process as c\n"
    code += "sys.exit(c(lambda: os.kill(os.getpid(), signal.SIGINT)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, b"Stopped.\n")
