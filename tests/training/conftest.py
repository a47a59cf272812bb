"""A cache of a dozen clips, the smallest SLiM that trains on it, and the command line as a user
meets it.
"""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slim_fast import pretrain
from slim_fast.data import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.skeletons import Topology
from slim_fast.training.config import PretrainConfig
from slim_fast.training.trainer import Trainer
from slim_fast.views.store import FrameStore

TINY = {
    "steps": 8,
    "batch": 4,
    "threads": 1,
    "device": "cpu",
    "precision": "fp32",
    "model.encoder.width": 16,
    "model.encoder.depth": 1,
    "model.encoder.heads": 1,
    "model.head.hidden": 16,
    "model.head.bottleneck": 8,
    "model.head.prototypes": 8,
    "views.window": 16,
    "views.local": [{"window": 8, "count": 1, "interval": [0.35, 0.7]}],
    "optim.learning_rate": 0.05,
    "optim.freeze_prototypes": 0.25,
    "log.metrics_every": 1,
    "log.knn_every": 4,
    "log.checkpoint_every": 2,
    "log.keep": 8,
    "log.plots": False,
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def arm() -> Topology:
    return Topology(
        name="arm-5",
        joints=("hip", "chest", "shoulder", "elbow", "hand"),
        parents=(-1, 0, 1, 2, 3),
        mirror=(0, 1, 2, 3, 4),
        parts={"trunk": (0, 1), "left_arm": (2, 3, 4)},
        centre=1,
    )


@pytest.fixture(scope="session")
def clips() -> list[Clip]:
    """A dozen clips of an arm that waves at its class's own speed; two of three for training."""
    random = np.random.default_rng(0)
    made = []
    for number in range(12):
        time = np.arange(20 + number)[:, None, None, None]
        positions = 1 + np.sin(0.3 * (1 + number % 2) * time + random.uniform(0, 6, (1, 5, 3, 1)))
        side = "test" if number % 3 == 2 else "train"
        made.append(
            Clip(positions, f"clip{number:02d}", number % 2, number // 3, split={"standard": side})
        )
    return made


@pytest.fixture(scope="session")
def write_cache(tmp_path_factory: pytest.TempPathFactory, arm: Topology) -> Callable[..., Path]:
    def write(clips: list[Clip], topology: Topology = arm) -> Path:
        path = tmp_path_factory.mktemp("data") / "cache"
        with CacheWriter(path, topology) as writer:
            for clip in clips:
                writer.add(clip)
        return path

    return write


@pytest.fixture(scope="session")
def cache_path(write_cache: Callable[..., Path], clips: list[Clip]) -> Path:
    return write_cache(clips)


@pytest.fixture
def tiny_fields() -> dict[str, Any]:
    return dict(TINY)


@pytest.fixture
def arguments(cache_path: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Command line of the smallest run; "__" in a change's name stands for the dot, None takes the
    field away.
    """

    def make(**changes: Any) -> list[str]:
        named = {name.replace("__", "."): value for name, value in changes.items()}
        fields = {"data": cache_path, "out": tmp_path / "run", **TINY, **named}
        return [f"--{name}={value}" for name, value in fields.items() if value is not None]

    return make


@pytest.fixture
def tiny_config(arguments: Callable[..., list[str]]) -> Callable[..., PretrainConfig]:
    return lambda **changes: pretrain.parse(arguments(**changes))


@pytest.fixture
def tiny_trainer(
    tiny_config: Callable[..., PretrainConfig], cache_path: Path
) -> Callable[..., Trainer]:
    def make(unwatched: bool | None = None, **changes: Any) -> Trainer:
        store = FrameStore(ClipCache.open(cache_path))
        return Trainer(tiny_config(**changes), store, unwatched=unwatched)

    return make


@pytest.fixture
def run(arguments: Callable[..., list[str]]) -> Callable[..., int]:
    """The smallest run in this process: exit status."""
    return lambda **changes: pretrain.main(arguments(**changes))


@pytest.fixture
def refused(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a run that cannot work says: exit status 2 and one sentence, the only line on stderr."""

    def call(**changes: Any) -> str:
        capsys.readouterr()
        assert run(**changes) == 2
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        lines = [line for line in printed.err.splitlines() if not line.startswith("step ")]
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")

    return call


@pytest.fixture
def start(
    arguments: Callable[..., list[str]], tmp_path: Path
) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """The smallest run as a process of its own; `code` runs in it first.

    At the beginning of step `hold` it makes the file "holding" and waits for a file "go", both in
    tmp_path.
    """
    started: list[subprocess.Popen[str]] = []

    def begin(code: str = "", hold: int = -1, **changes: Any) -> "subprocess.Popen[str]":
        program = f"""
import runpy, sys, time
from pathlib import Path
from slim_fast.training.trainer import Trainer
sys.argv = {["pretrain", *arguments(**changes)]!r}
step = Trainer.step
def held(self, number):
    if number == {hold}:
        Path({str(tmp_path / "holding")!r}).touch()
        while not Path({str(tmp_path / "go")!r}).exists():
            time.sleep(0.01)
    return step(self, number)
Trainer.step = held
{code}
runpy.run_module("slim_fast.pretrain", run_name="__main__")
"""
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def outcome() -> Callable[[Path], dict[str, Any]]:
    """Everything a finished run has computed: what no interruption may change, not by a bit."""

    def read(folder: Path) -> dict[str, Any]:
        last = sorted((folder / "checkpoints").glob("*.pt"))[-1]
        state = torch.load(last, weights_only=True)
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        summary = json.loads((folder / "summary.json").read_text())
        timing = ("seconds", "samples_per_second", "peak_memory")
        return {
            "state": {name: value for name, value in state.items() if name not in timing},
            "metrics": [{k: v for k, v in record.items() if k not in timing} for record in records],
            "summary": {k: v for k, v in summary.items() if k not in timing},
            "encoder": (folder / "encoder" / "model.safetensors").read_bytes(),
        }

    return read


@pytest.fixture(scope="session")
def same() -> Callable[[Any, Any], bool]:
    """Equality to the last bit of nested dicts, lists and tensors."""

    def compare(a: Any, b: Any) -> bool:
        if isinstance(a, dict):
            return list(a) == list(b) and all(compare(a[key], b[key]) for key in a)
        if isinstance(a, (list, tuple)):
            return len(a) == len(b) and all(map(compare, a, b))
        if isinstance(a, torch.Tensor):
            return a.dtype == b.dtype and torch.equal(a, b)
        return bool(a == b)

    return compare


@pytest.fixture(scope="session")
def whole_run(cache_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the smallest run, done in one go; not to be touched."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    fields = {"data": cache_path, "out": folder, **TINY}
    assert pretrain.main([f"--{name}={value}" for name, value in fields.items()]) == 0
    return folder


@pytest.fixture(scope="session")
def uninterrupted(whole_run: Path, outcome: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    return outcome(whole_run)


@pytest.fixture
def finished(whole_run: Path, tmp_path: Path) -> Path:
    """The finished run in the folder that `run` uses."""
    return shutil.copytree(whole_run, tmp_path / "run")


@pytest.fixture
def unfinished(finished: Path) -> Path:
    """The same with all its checkpoints, ended before the summary was written."""
    (finished / "summary.json").unlink()
    return finished


@pytest.fixture
def must_not_be_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Take the permission to read files and folders of a name, from root too."""

    def close(name: str) -> None:
        opened, listed = io.open, os.listdir

        def check(path: Any) -> None:
            if isinstance(path, (str, os.PathLike)) and Path(path).name == name:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

        monkeypatch.setattr(
            io,
            "open",
            lambda path, *rest, **options: (check(path), opened(path, *rest, **options))[1],
        )
        monkeypatch.setattr("builtins.open", io.open)
        monkeypatch.setattr(os, "listdir", lambda path=".": (check(path), listed(path))[1])

    return close
