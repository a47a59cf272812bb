"""What a user can get wrong ends with exit status 2 and one sentence that names the thing."""

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slim_fast import evaluate, pretrain
from slim_fast.data.clips import Clip
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology
from slim_fast.training.config import PretrainConfig
from slim_fast.training.trainer import Trainer
from slim_fast.views.pipeline import LocalViewConfig

Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"preset": "nosuch"}, ["nosuch", "demo", "ntu60-xsub"]),
        ({"stepz": 3}, ["--stepz"]),
        ({"optim.momentum": 0.9}, ["optim.momentum"]),
        ({"steps": "many"}, ["steps", "many"]),
        ({"steps": 2.5}, ["steps", "2.5"]),
        ({"batch": "[1,2]"}, ["batch"]),
        ({"precision": "fp64"}, ["precision", "fp64"]),
        ({"optim.weight_decay": 0.1}, ["optim.weight_decay"]),
        ({"views.local": "[{frames: 9}]"}, ["views.local", "frames"]),
        ({"views.mask.kind": "cube"}, ["views.mask.kind", "cube", "tube"]),
        ({"config": "/no/such.yaml"}, ["/no/such.yaml"]),
    ],
)
def test_unknown_and_malformed_fields(changes: dict[str, Any], named: list[str], refused: Refused) -> None:
    sentence = refused(**changes)
    assert all(name in sentence for name in named), sentence


@pytest.fixture(scope="module")
def config() -> PretrainConfig:
    return pretrain.parse(["--device=cpu"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", -5),
        ("batch", 0),
        ("seed", 2**80),
        ("threads", 0),
        ("threads", -1),
        ("device", "tpu"),
        ("device", "meta"),
        ("device", "cuda:99"),
        ("views.window", 12),
        ("views.window", 0),
        ("views.interval", (0.9, 0.5)),
        ("views.interval", (0.5, 1.5)),
        ("views.local", [LocalViewConfig(window=9)]),
        ("views.local", [LocalViewConfig(count=0)]),
        ("views.local", [LocalViewConfig(interval=(-0.5, 0.5))]),
        ("views.mask.ratio", (0.5, 1.1)),
        ("views.mask.global_share", -0.1),
        ("views.mask.motion_temperature", 0),
        ("model.encoder.depth", 0),
        ("model.encoder.registers", -1),
        ("model.encoder.ffn_ratio", 0),
        ("model.encoder.patch_frames", 4),
        ("model.head.hidden", 0),
        ("model.head.bottleneck", -2),
        ("model.head.prototypes", 1),
        ("model.loss.koleo", -0.1),
        ("optim.learning_rate", 0),
        ("optim.learning_rate", float("nan")),
        ("optim.final_learning_rate", float("inf")),
        ("optim.betas", (0.9, 1.0)),
        ("optim.warmup", 5000),
        ("optim.clip", 0),
        ("optim.teacher_momentum", (0.9, 1.1)),
        ("optim.teacher_temperature", (0.0, 0.07)),
        ("log.metrics_every", 0),
        ("log.knn_every", -1),
        ("log.knn_clips", 0),
        ("log.checkpoint_every", -1),
        ("log.keep", 0),
    ],
)
def test_values_that_cannot_work(name: str, value: Any, config: PretrainConfig, tmp_path: Path) -> None:
    changed = copy.deepcopy(config)
    changed.out = str(tmp_path / "run")
    *way, last = name.split(".")
    setattr(reduce(getattr, way, changed), last, value)
    with pytest.raises(UserError, match="views" if name.startswith("views") else re.escape(name)) as raised:
        pretrain.pretrain(changed)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"batch": -1},
        {"device": "tpu"},
        {"views.window": 12},
        {"views.local": [{"count": 0}]},
        {"encoder.width": 0},
        {"encoder.heads": 3},
        {"optim.learning_rate": "nan"},
        {"model.loss.contrastive": 0, "model.loss.masked": 0},
    ],
)
def test_such_values_on_the_command_line(changes: dict[str, Any], refused: Refused, tmp_path: Path) -> None:
    fields = {name.replace("encoder", "model.encoder"): value for name, value in changes.items()}
    assert next(iter(changes)).rpartition(".")[0] in refused(**fields)
    assert not (tmp_path / "run").exists()


def test_data_that_is_no_cache(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.npz").write_bytes(b"PK nonsense")
    for path in (tmp_path / "missing", tmp_path / "folder", tmp_path / "file.npz", tmp_path / "file.npz" / "below"):
        sentence = refused(data=path)
        assert str(path) in sentence
        assert "slim_fast.data convert" in sentence


@pytest.mark.parametrize("preset", ["small", "ntu60-xsub", "ntu120-xset", "pku-mmd-2", "ablation-mfm"])
def test_presets_for_real_data_ask_for_it(preset: str, refused: Refused, tmp_path: Path) -> None:
    sentence = refused(preset=preset, data=None)
    assert "--data" in sentence
    assert "slim_fast.data convert" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("file", ["positions.npy", "clips.npz", "meta.json"])
@pytest.mark.parametrize("damage", ["cut", "missing", "garbage"])
def test_damaged_cache(
    file: str, damage: str, refused: Refused, write_cache: Callable[..., Path], clips: list[Clip]
) -> None:
    path = write_cache(clips)
    content = (path / file).read_bytes()
    (path / file).unlink()
    if damage != "missing":
        (path / file).write_bytes(content[: len(content) // 2] if damage == "cut" else b"\x93garbage" * 20)
    sentence = refused(data=path)
    assert str(path) in sentence
    assert "convert" in sentence


def test_unknown_split(refused: Refused) -> None:
    sentence = refused(split="xsub")
    assert "xsub" in sentence
    assert "standard" in sentence  # the one there is


def test_out_that_cannot_be_written(refused: Refused, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    file.chmod(0o400)
    for path in (file, file / "below", file / "below" / "further"):
        sentence = refused(out=path)
        assert str(path) in sentence
        assert "--out" in sentence
    assert file.read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permission bits do not bind root")
def test_out_without_permission(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    assert str(tmp_path / "closed" / "run") in refused(out=tmp_path / "closed" / "run")


@pytest.mark.parametrize("name", ["checkpoints", "metrics.jsonl", "config.json"])
def test_run_folder_with_something_in_the_way(name: str, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    if name == "checkpoints":
        (tmp_path / "run" / name).write_text("a file")
    else:
        (tmp_path / "run" / name).mkdir()
    assert str(tmp_path / "run") in refused()


def test_folder_of_something_else_is_not_overwritten(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for content in ('{"embed_dim": 256}', "not json", "[1]"):
        (tmp_path / "run" / "config.json").write_text(content)
        assert "--out" in refused()
        assert (tmp_path / "run" / "config.json").read_text() == content


@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_run_with_other_settings(state: str, request: pytest.FixtureRequest, refused: Refused) -> None:
    folder = request.getfixturevalue(state)
    before = (folder / "config.json").read_text()
    sentence = refused(steps=9, **{"optim.clip": 1.0, "log.keep": 5})
    assert "steps: 8 -> 9" in sentence
    assert "optim.clip: 3.0 -> 1.0" in sentence
    assert "keep" not in sentence
    assert "seed" not in sentence
    assert "--out" in sentence
    assert (folder / "config.json").read_text() == before


def test_settings_may_change_until_a_run_has_begun(run: Callable[..., int], refused: Refused, tmp_path: Path) -> None:
    refused(split="nosuch")
    assert run(steps=2) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["split"] is None


def test_finished_run_again(finished: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*")}
    assert run() == 0
    again = capsys.readouterr()
    assert again.out.startswith(f"{finished} holds a finished run; choose another --out for a new one.\n")
    assert again.err == ""
    summary = json.loads((finished / "summary.json").read_text())
    accuracies = [line.split()[2:] for line in again.out.splitlines() if "accuracy" in line]
    assert accuracies == [
        [f"{summary[protocol + suffix]:.1%}" for suffix in ("", "_random_encoder", "_coordinates")]
        for protocol in ("knn_top1", "linear_top1")
    ]
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("*")} == before


@pytest.mark.usefixtures("unfinished")
def test_resuming_on_other_clips(
    run: Callable[..., int], refused: Refused, write_cache: Callable[..., Path], clips: list[Clip]
) -> None:
    fewer = write_cache(clips[:9])
    wide = [replace(clip, positions=clip.positions.repeat(5, axis=1)) for clip in clips]
    for path in (fewer, write_cache(wide, get_topology("ntu-25"))):
        sentence = refused(data=path)
        assert str(path) in sentence
        assert "other clips" in sentence
    assert run(data=write_cache(clips)) == 0  # the same clips at another place


def test_clips_with_nan_in_a_damaged_cache(
    refused: Refused, write_cache: Callable[..., Path], clips: list[Clip], tmp_path: Path
) -> None:
    path = write_cache(clips)
    positions = np.load(path / "positions.npy", mmap_mode="r+")
    positions[:20] = np.nan  # the first clip
    positions.flush()
    sentence = refused(data=path, batch=8)  # every training clip
    assert "not finite at step 0" in sentence
    assert "and 4 more" in sentence
    listed = tmp_path / "run" / "nonfinite-step-0.txt"
    assert str(listed) in sentence
    assert sorted(listed.read_text().split()) == [f"clip{n:02d}" for n in range(12) if n % 3 != 2]
    assert "none" in sentence.partition("last good checkpoint")[2]


def test_nan_after_a_checkpoint(
    run: Callable[..., int],
    refused: Refused,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: dict[str, Any],
    outcome: Callable[[Path], dict[str, Any]],
    same: Callable[[Any, Any], bool],
) -> None:
    step = Trainer.step

    def poisoned(self: Trainer, number: int) -> Any:
        if number == 5:
            with torch.no_grad():
                self.model.student.encoder.norm.weight[0] = float("nan")
        return step(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", poisoned)
        sentence = refused()
    assert "at step 5" in sentence
    batch = (tmp_path / "run" / "nonfinite-step-5.txt").read_text().split()
    assert len(batch) == 4
    assert all(name in sentence for name in batch)
    good = tmp_path / "run" / "checkpoints" / "step-00000004.pt"
    assert str(good) in sentence
    assert sorted((tmp_path / "run" / "checkpoints").iterdir())[-1] == good
    assert run() == 0
    assert same(outcome(tmp_path / "run"), uninterrupted)


def test_learning_rate_beyond_all_bounds(refused: Refused) -> None:
    sentence = refused(steps=40, **{"optim.learning_rate": 1e20, "log.checkpoint_every": 1})
    assert "is not finite at step" in sentence
    assert "clip0" in sentence or "clip1" in sentence
    assert "optim.learning_rate" in sentence


@pytest.mark.parametrize("culprit", ["loss", "gradient"])
def test_non_finite_step_leaves_the_weights(
    culprit: str,
    tiny_trainer: Callable[..., Trainer],
    same: Callable[[Any, Any], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = tiny_trainer()
    trainer.step(0)
    trainer.step(1)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    forward = type(trainer.model).forward

    def infinite(self: Any, *arguments: Any) -> Any:
        losses = forward(self, *arguments)
        if culprit == "loss":
            return {**losses, "loss": losses["loss"] * float("inf")}
        return {**losses, "loss": losses["loss"] + (0 * self.student.encoder.norm.weight.sum()).sqrt()}

    monkeypatch.setattr(type(trainer.model), "forward", infinite)
    with pytest.raises(ValueError, match="not finite at step 2"):
        trainer.step(2)
    assert same(trainer.model.state_dict(), before)
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    monkeypatch.undo()
    fresh = tiny_trainer()
    for step in range(3):
        fresh.step(step)
    trainer.step(2)
    assert same(trainer.state_dict(), fresh.state_dict())


def test_a_process_says_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "slim_fast.pretrain", "--data", "/no/such/cache", "--out", str(tmp_path / "run")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: /no/such/cache is not a clip cache")
    assert len(ended.stderr.splitlines()) == 1


def test_evaluating_what_does_not_fit(
    finished: Path,
    tmp_path: Path,
    cache_path: Path,
    write_cache: Callable[..., Path],
    clips: list[Clip],
    capsys: pytest.CaptureFixture[str],
) -> None:
    wide = [replace(clip, positions=clip.positions.repeat(5, axis=1)) for clip in clips]
    unlabelled = [replace(clip, label=-1) for clip in clips]
    (tmp_path / "unfinished" / "checkpoints").mkdir(parents=True)
    cases = [
        (finished, write_cache(wide, get_topology("ntu-25")), ["5 joints", "25 joints"]),
        (finished, write_cache(unlabelled), ["no labelled"]),
        (finished, write_cache([replace(clips[0], split={})]), ["no train/test split"]),
        (finished, tmp_path / "missing", ["is not a clip cache"]),
        (tmp_path / "missing", cache_path, [str(tmp_path / "missing")]),
        (tmp_path / "unfinished", cache_path, ["not finished"]),
    ]
    capsys.readouterr()
    for folder, data, named in cases:
        for protocol in ("knn", "linear"):
            assert evaluate.main([protocol, str(folder), "--data", str(data)]) == 2
            printed = capsys.readouterr()
            assert printed.out == ""
            assert len(printed.err.splitlines()) == 1
            assert printed.err.startswith("error: ")
            assert all(name in printed.err for name in named), printed.err


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "missing", "empty"])
def test_evaluating_a_damaged_encoder(
    file: str, damage: str, finished: Path, cache_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = finished / "encoder" / file
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    assert evaluate.main(["knn", str(finished), "--data", str(cache_path)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert file in said


def test_evaluation_prints_the_run_beside_its_baselines(
    finished: Path, cache_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    for protocol in ("knn", "linear"):
        assert evaluate.main([protocol, str(finished), "--data", str(cache_path), "--json"]) == 0
        figures = json.loads(capsys.readouterr().out)[protocol]
        for source in ("learned", "random_encoder", "coordinates"):
            value = figures[source]["1"] if protocol == "knn" else figures[source]
            suffix = "" if source == "learned" else f"_{source}"
            assert value == pytest.approx(summary[f"{protocol}_top1{suffix}"])
        assert evaluate.main([protocol, str(finished), "--data", str(cache_path)]) == 0
        assert "random encoder" in capsys.readouterr().out


def test_ctrl_c_before_the_first_step(
    arguments: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pressed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("slim_fast.training.run.open_data", pressed)
    assert pretrain.main(arguments()) == 130
    said = capsys.readouterr().err
    assert said == "Stopped by SIGINT. The same command resumes from the last checkpoint, if one was written.\n"
