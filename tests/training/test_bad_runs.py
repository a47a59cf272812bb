"""Run folders that cannot be used or are of another run are refused in one sentence."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slim_fast.data.clips import Clip
from slim_fast.skeletons import get_topology

Refused = Callable[..., str]


def test_out_that_cannot_be_written(refused: Refused, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    file.chmod(0o400)
    for path in (file, file / "below", file / "below" / "further"):
        sentence = refused(out=path)
        assert str(path) in sentence
        assert "--out" in sentence
    assert file.read_text() == "mine"


@pytest.mark.parametrize("file", ["config.json", "summary.json"])
def test_run_that_must_not_be_read(
    file: str, finished: Path, refused: Refused, must_not_be_read: Callable[[str], None]
) -> None:
    must_not_be_read(file)
    assert f"{finished / file}: Permission denied" in refused()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permission bits do not bind root"
)
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
def test_run_with_other_settings(
    state: str, request: pytest.FixtureRequest, refused: Refused
) -> None:
    folder = request.getfixturevalue(state)
    before = (folder / "config.json").read_text()
    sentence = refused(batch=5, steps=9, **{"optim.clip": 1.0, "log.keep": 5})
    assert "batch: 4 -> 5" in sentence
    assert "steps" not in sentence  # may be raised
    assert "optim.clip: 3.0 -> 1.0" in sentence
    assert "keep" not in sentence
    assert "seed" not in sentence
    assert "--out" in sentence
    assert (folder / "config.json").read_text() == before


def test_settings_may_change_until_a_run_has_begun(
    run: Callable[..., int], refused: Refused, tmp_path: Path
) -> None:
    refused(split="nosuch")
    assert run(steps=2) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["split"] is None


def test_finished_run_again(
    finished: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*")}
    assert run() == 0
    again = capsys.readouterr()
    first = again.out.splitlines()[0]
    assert (
        first
        == f"{finished} holds a finished run; choose another --out for a new one, or more --steps "
        "to go on."
    )
    assert again.err == ""
    summary = json.loads((finished / "summary.json").read_text())
    accuracies = [line.split()[2:] for line in again.out.splitlines() if "accuracy" in line]
    assert accuracies == [
        [f"{summary[protocol + suffix]:.1%}" for suffix in ("", "_random_encoder", "_coordinates")]
        for protocol in ("knn_top1", "linear_top1")
    ]
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("*")} == before


@pytest.mark.parametrize("change", [{"seconds": "x"}, {"device": None, "changes": [{"step": 1}]}])
def test_a_summary_that_cannot_be_shown(
    change: dict[str, object], finished: Path, refused: Refused
) -> None:
    path = finished / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert f"{path} cannot be read" in refused()
    assert "delete it and give the same command again" in refused()


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
