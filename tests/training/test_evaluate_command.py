"""The evaluation of a run: its figures, and encoders and data that do not fit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from slim_fast import evaluate
from slim_fast.data.clips import Clip
from slim_fast.skeletons import get_topology


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "slim.pth"])
def test_encoder_that_must_not_be_read(
    file: str,
    finished: Path,
    cache_path: Path,
    must_not_be_read: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = finished / "encoder"
    if file == "slim.pth":
        torch.save({}, run / file)
        run /= file
    must_not_be_read(file)
    capsys.readouterr()
    assert evaluate.main(["knn", str(run), "--data", str(cache_path)]) == 2
    said = capsys.readouterr().err
    assert "Permission denied" in said
    assert file in said
    assert "damaged" not in said
    assert len(said.splitlines()) == 1


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
