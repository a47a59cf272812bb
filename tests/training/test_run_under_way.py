"""A run that is not finished is read as its newest checkpoint's teacher, while it goes on too."""

import json
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from slim_fast import SLiMClassifier, SLiMEncoder, evaluate, export, stream
from slim_fast.errors import UserError
from slim_fast.skeletons import Topology


@pytest.fixture
def under_way(finished: Path) -> Path:
    """The finished run as it was at step 6 of 8."""
    (finished / "summary.json").unlink()
    shutil.rmtree(finished / "encoder")
    (finished / "checkpoints" / "step-00000008.pt").unlink()
    return finished


def teacher_of(folder: Path, step: int) -> dict[str, Any]:
    model = torch.load(folder / "checkpoints" / f"step-{step:08d}.pt", weights_only=True)["model"]
    return {
        k.removeprefix("teacher.encoder."): v
        for k, v in model.items()
        if k.startswith("teacher.encoder.")
    }


@pytest.mark.parametrize("kind", [SLiMEncoder, SLiMClassifier])
def test_from_pretrained_takes_the_teacher_and_says_so(
    kind: type[SLiMEncoder], under_way: Path, arm: Topology
) -> None:
    with pytest.warns(UserWarning, match="is not finished: this is its teacher after step 6 of 8"):
        encoder = kind.from_pretrained(under_way)
    assert encoder.topology == arm
    assert encoder.channel_names == "xyz"
    assert encoder.config.window == 16  # the run's views.window
    weights = teacher_of(under_way, 6)
    assert all(torch.equal(encoder.state_dict()[name], tensor) for name, tensor in weights.items())


def test_damaged_newest_one_is_passed_over(under_way: Path) -> None:
    path = under_way / "checkpoints" / "step-00000006.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="after step 4 of 8"):
        SLiMEncoder.from_pretrained(under_way)


def test_commands_take_it_and_say_so(
    under_way: Path,
    finished: Path,
    cache_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = (
        f"warning: The run in {under_way} is not finished: this is its teacher after step 6 of 8."
    )
    commands: list[tuple[Callable[[list[str]], int], list[Any]]] = [
        (evaluate.main, ["knn", under_way, "--data", cache_path]),
        (export.main, [under_way, "--to", "torch-export", "--out", tmp_path / "encoder.pt2"]),
        (
            stream.main,
            [under_way, "--data", cache_path, "--window", 16, "--out", tmp_path / "film.gif"],
        ),
    ]
    for main, arguments in commands:
        capsys.readouterr()
        assert main([str(word) for word in arguments]) == 0
        assert capsys.readouterr().err.splitlines().count(said) == 1, arguments
    assert (tmp_path / "encoder.pt2").exists()
    assert (tmp_path / "film.gif").exists()


def test_evaluation_is_that_of_the_teacher(
    under_way: Path, cache_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.warns(UserWarning, match="not finished"):
        SLiMEncoder.from_pretrained(under_way).save_pretrained(tmp_path / "kept")
    figures = []
    for source in (under_way, tmp_path / "kept"):
        capsys.readouterr()
        assert evaluate.main(["knn", str(source), "--data", str(cache_path), "--json"]) == 0
        figures.append(json.loads(capsys.readouterr().out))
    assert figures[0] == figures[1]


def test_finished_one_is_read_without_a_word(
    finished: Path, recwarn: pytest.WarningsRecorder
) -> None:
    SLiMEncoder.from_pretrained(finished)
    assert not [warning for warning in recwarn if "not finished" in str(warning.message)]


def test_before_the_first_checkpoint(under_way: Path) -> None:
    shutil.rmtree(under_way / "checkpoints")
    with pytest.raises(UserError, match="is not finished and has written no checkpoint yet"):
        SLiMEncoder.from_pretrained(under_way)


def test_checkpoint_of_an_earlier_version(under_way: Path) -> None:
    path = under_way / "checkpoints" / "step-00000006.pt"
    state = torch.load(path, weights_only=True)
    del state["encoder"], state["conditions"]
    torch.save(state, path)
    with pytest.raises(
        UserError, match="comes from a version that did not write down its skeleton"
    ):
        SLiMEncoder.from_pretrained(under_way)


def test_run_of_an_earlier_version_is_resumed(
    under_way: Path,
    run: Callable[..., int],
    uninterrupted: dict[str, Any],
    outcome: Callable[[Path], dict[str, Any]],
    same: Callable[[Any, Any], bool],
) -> None:
    path = under_way / "checkpoints" / "step-00000006.pt"
    state = torch.load(path, weights_only=True)
    del state["encoder"], state["conditions"]
    torch.save(state, path)
    begun = json.loads((under_way / "config.json").read_text())
    del begun["init"], begun["log"]["checkpoint_minutes"]
    (under_way / "config.json").write_text(json.dumps(begun))
    assert run() == 0
    assert same(outcome(under_way), uninterrupted)


def test_read_again_and_again_while_it_writes(
    arguments: Callable[..., list[str]], tmp_path: Path
) -> None:
    """One checkpoint is kept and every step writes one, up to the finished encoder."""
    changes = {"steps": 60, "log__checkpoint_every": 1, "log__keep": 1, "log__knn_every": 60}
    command = [sys.executable, "-m", "slim_fast.pretrain", *arguments(**changes)]
    folder, seen = tmp_path / "run", set()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        # whole ones, not the hidden one that is being written
        while not list(folder.glob("checkpoints/step-*.pt")):
            assert process.poll() is None
            time.sleep(0.01)
        while process.poll() is None:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                SLiMEncoder.from_pretrained(folder)
            seen |= {str(warning.message).split("step ")[-1] for warning in warned}
        assert process.wait() == 0, process.stderr.read() if process.stderr else ""
    assert len(seen) > 5
    SLiMEncoder.from_pretrained(folder)
