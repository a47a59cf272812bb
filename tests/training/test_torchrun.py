"""A run that torchrun starts: a killed process, one sentence, a restart that resumes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from slim_fast import pretrain
from slim_fast.errors import UserError
from slim_fast.training.monitor import read_metrics
from slim_fast.training.ranks import Ranks
from slim_fast.training.trainer import Trainer

KILLED = """
import atexit, os, pathlib, runpy, signal, sys
def record_threads():
    names = [f.read_text().strip() for f in pathlib.Path("/proc/self/task").glob("*/comm")]
    pathlib.Path(__file__).with_name("threads-" + os.environ["RANK"]).write_text(str(names))
atexit.register(record_threads)
from slim_fast.training.trainer import Trainer
step = Trainer.step
def deadly(self, number):
    first_try = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if number == 5 and os.environ["RANK"] == "1" and first_try:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, number)
Trainer.step = deadly
runpy.run_module("slim_fast.pretrain", run_name="__main__")
"""


HANGING = """
import os, runpy, time
from slim_fast.training.trainer import Trainer
step = Trainer.step
def sleepy(self, number):
    if number == 5 and os.environ["RANK"] == "1":
        time.sleep(25)
    return step(self, number)
Trainer.step = sleepy
runpy.run_module("slim_fast.pretrain", run_name="__main__")
"""


@pytest.mark.long
def test_a_process_that_hangs_is_named(arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    script = tmp_path / "hanging.py"
    script.write_text(HANGING)
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=3"]
    words = arguments(max_wait=0.1, batch=6)
    command = [sys.executable, "-m", *launcher, str(script), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if "error: " in line]
    assert len(said) == 1
    assert " No answer from rank 1: hanging, or ended. The same command resumes" in said[0]
    assert "step-00000005.pt" in said[0]  # nothing that was computed is lost


def test_a_killed_process_and_the_restart(
    arguments: Callable[..., list[str]], tmp_path: Path, whole_run: Path
) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    launcher.append("--monitor-interval=2")  # time for the other process to speak before its end
    command = [sys.executable, "-m", *launcher, str(script), *arguments()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "error: " in line]
    assert len(said) == 1
    assert "Another process of the run has ended or cannot be reached" in said[0]
    assert "step-00000005.pt" in said[0]  # nothing that was computed is lost
    assert done.stdout.count("Resuming at step 5 of 8.") == 1
    ours, wanted = (
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (tmp_path / "run", whole_run)
    )
    assert [r["step"] for r in ours] == [r["step"] for r in wanted]
    for one, other in zip(ours, wanted, strict=True):
        assert one.get("loss", 0) == pytest.approx(other.get("loss", 0), abs=1e-5)
    state = torch.load(tmp_path / "run" / "checkpoints" / "step-00000008.pt", weights_only=True)
    assert state["conditions"]["processes"] == 2
    for rank in range(2):  # no thread frees tensors while Python ends
        assert "gloo" not in (tmp_path / f"threads-{rank}").read_text()


@pytest.mark.long
def test_sharded_weights_evaluate_and_save_the_same_encoder(
    arguments: Callable[..., list[str]], tmp_path: Path, whole_run: Path
) -> None:
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, "-m", *launcher, "-m", "slim_fast.pretrain"]
    done = subprocess.run(
        [*command, *arguments(sharding="fsdp")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    ours, wanted = (read_metrics(run / "metrics.jsonl") for run in (tmp_path / "run", whole_run))
    assert [r.get("knn_top1") for r in ours] == [r.get("knn_top1") for r in wanted]
    for one, other in zip(ours, wanted, strict=True):
        assert one.get("loss", 0) == pytest.approx(other.get("loss", 0), abs=1e-5)
    weights = [
        load_file(run / "encoder" / "model.safetensors") for run in (tmp_path / "run", whole_run)
    ]
    torch.testing.assert_close(*weights, rtol=0, atol=1e-5)


def test_a_batch_that_cannot_be_divided() -> None:
    assert [Ranks(rank, 4).split(8, 2) for rank in (0, 3)] == [
        [slice(0, 1), slice(1, 2)],
        [slice(6, 7), slice(7, 8)],
    ]
    with pytest.raises(UserError, match=r"batch=10 cannot be divided into 4 .* take 8, for"):
        Ranks(0, 2).split(10, 2)
    with pytest.raises(UserError, match=r"take 4, for"):
        Ranks(0, 4).split(3, 1)


def test_max_hours(
    run: Callable[..., int],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Callable[[Path], dict[str, Any]],
    same: Callable[[Any, Any], bool],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run(max_hours=1e-9) == 75
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("Stopped by --max_hours 1e-09 after step 0; ")
    assert last.endswith("step-00000000.pt is saved. The same command resumes the run.")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert run(max_hours=1e-9) == 0  # torchrun would begin again
    assert run() == 0
    assert same(outcome(tmp_path / "run"), uninterrupted)


def test_memory_that_runs_out(
    refused: Callable[..., str], run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many parts as fit are found by trying, and the run goes on with them."""
    compute = Trainer.compute_gradients

    def cramped(self: Trainer, *arguments: Any) -> Any:
        if self.parts[0].stop - self.parts[0].start > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compute(self, *arguments)

    monkeypatch.setattr(Trainer, "compute_gradients", cramped)
    sentence = refused()
    assert "Step 0 needs more memory than the device has (4 clips in 1 parts)" in sentence
    assert "Give --accumulate 4, which fits" in sentence
    assert run(accumulate=4, steps=2) == 0


def test_a_batch_that_fits_is_found(
    run: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., str],
) -> None:
    """`--batch auto` halves the preset's, 64; a resumed run keeps what was found."""
    compute, tried = Trainer.compute_gradients, []

    def cramped(self: Trainer, *arguments: Any) -> Any:
        tried.append(self.config.batch)
        if self.config.batch > largest:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compute(self, *arguments)

    monkeypatch.setattr(Trainer, "compute_gradients", cramped)
    preset = pretrain.parse([]).batch
    largest = preset // 4
    assert run(batch="auto", steps=2) == 0
    assert tried == [preset, preset // 2, preset // 4, *[preset // 4] * 2]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["batch"], config["fit_batch"]) == (preset // 4, True)
    tried.clear()
    assert run(batch="auto", steps=3) == 0
    assert tried == [preset // 4]
    largest = 0
    sentence = refused(batch="auto", out=tmp_path / "other")
    assert sentence.startswith("Not even 1 clips a step fit into the device's memory")
