"""The evaluation of a run: its figures, and encoders and data that do not fit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from slim_fast import SLiMEncoder, evaluate
from slim_fast.data.clips import Clip
from slim_fast.skeletons import Topology, get_topology


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


def figures_of(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """What `evaluate ... --json` prints."""
    capsys.readouterr()
    assert evaluate.main([*map(str, words), "--json"]) == 0
    figures: dict[str, Any] = json.loads(capsys.readouterr().out)
    return figures


def test_frozen_figures_are_those_of_the_runs_summary(
    finished: Path, cache_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    command = [finished, "--data", cache_path, "--seeds", 1, "--iterations", 3]
    for protocol, row in (("knn", "1-NN"), ("linear", "logistic regression")):
        figures = figures_of(capsys, protocol, *command)[protocol][row]
        for source in ("learned", "random_encoder", "coordinates"):
            suffix = "" if source == "learned" else f"_{source}"
            assert figures[source]["mean"] == pytest.approx(summary[f"{protocol}_top1{suffix}"])
        assert evaluate.main([protocol, *map(str, command)]) == 0
        assert "random encoder" in capsys.readouterr().out


def test_all_protocols_in_one_table_and_a_file_each(
    finished: Path, cache_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["all", str(finished), "--data", str(cache_path), "--seeds", "2", "--batch", "2"]
    assert evaluate.main([*command, "--iterations", "2", "--fractions", "0.3"]) == 0
    printed = capsys.readouterr().out
    rows = ("1-NN", "mAP", "linear, chosen on", "30 % of the labels", "fine-tuned on all labels")
    assert all(row in printed for row in rows)
    folder = finished / "evaluation" / cache_path.name
    assert {path.name for path in folder.iterdir()} == {
        *(f"{name}.json" for name in ("knn", "linear", "semi", "finetune")),
        "linear.pth",
    }
    record = json.loads((folder / "finetune.json").read_text())
    assert record["settings"]["seeds"] == [0, 1]
    assert record["settings"]["recipe"]["batch"] == 2
    assert record["notes"]["iterations"] == 2
    assert len(record["figures"]["fine-tuned on all labels"]["from_scratch"]["values"]) == 2
    assert record["classes"]
    # the same again needs no encoder but for tuning: features are found
    before = {path: path.stat().st_mtime_ns for path in finished.glob("evaluation/features/*")}
    assert len(before) == 6  # learned and two random encoders, of the training and test clips
    assert evaluate.main(["knn", *command[1:-2]]) == 0
    after = {path: path.stat().st_mtime_ns for path in finished.glob("evaluation/features/*")}
    assert before == after


def test_transfer_matches_joints_by_itself(
    finished: Path,
    write_cache: Callable[..., Path],
    clips: list[Clip],
    arm: Topology,
    capsys: pytest.CaptureFixture[str],
) -> None:
    swapped = [replace(clip, positions=clip.positions[:, [0, 1, 2, 4, 3]]) for clip in clips]
    joints = ("hip", "chest", "shoulder", "hand", "elbow")
    other = replace(arm, name="other-arm", joints=joints, parents=(-1, 0, 1, 4, 2))
    data = write_cache(swapped, other)
    command = [str(finished), "--data", str(data), "--seeds", "1", "--iterations", "2"]
    assert evaluate.main(["knn", *command]) == 2
    assert "match-joints" in capsys.readouterr().err
    figures = figures_of(capsys, "transfer", *command)["transfer"]
    assert next(iter(figures)) == "logistic regression"
    assert figures["fine-tuned on all labels"].keys() >= {"learned", "from_scratch"}


def test_a_saved_grid_is_scored_without_training(
    finished: Path, cache_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["linear", finished, "--data", cache_path, "--seeds", 1, "--iterations", 5]
    row = "linear, best on the test clips"
    trained = figures_of(capsys, *command)["linear"][row]["learned"]["mean"]
    saved = finished / "evaluation" / cache_path.name / "linear.pth"
    figures = figures_of(capsys, *command, "--classifiers", saved)["linear"]
    assert figures[row]["learned"]["mean"] == trained
    assert evaluate.main([*map(str, command), "--classifiers", str(finished / "no.pth")]) == 2
    assert "name a file of classifiers" in capsys.readouterr().err


def test_a_run_without_a_protocol_is_told_what_to_type(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(finished)]) == 2
    said = capsys.readouterr().err
    assert f"evaluate all {finished} --data CACHE`" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--seeds", "0"], "at least one seed"),
        (["--iterations", "0"], "iterations=0"),
        (["--people", "0"], "people=0"),
        (["--drop-path", "1"], "drop path"),
        (["--fractions", "2"], "A share of 2"),
        (["--fractions", "0.01", "--draw", "random"], "cannot hold 2 classes"),
    ],
)
def test_options_that_make_no_sense(
    options: list[str],
    says: str,
    finished: Path,
    cache_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert evaluate.main(["semi", str(finished), "--data", str(cache_path), *options]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1


def test_stopped_in_the_middle_what_is_finished_stays(
    finished: Path,
    cache_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "evaluate_linear", stop)
    command = ["all", str(finished), "--data", str(cache_path), "--seeds", "1"]
    assert evaluate.main(command) == 130
    assert "what was finished is kept" in capsys.readouterr().err
    folder = finished / "evaluation" / cache_path.name
    assert [path.name for path in folder.iterdir()] == ["knn.json"]


def test_results_beside_files_and_elsewhere(
    finished: Path, cache_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.default_folder(str(finished)) == finished / "evaluation"
    weights = finished / "encoder" / "model.safetensors"
    assert evaluate.default_folder(str(weights)) == weights.parent / "model-evaluation"
    assert evaluate.default_folder("owner/name") == Path("evaluation/owner--name")
    command = ["knn", str(finished), "--data", str(cache_path), "--seeds", "1"]
    assert evaluate.main([*command, "--out", str(tmp_path / "o"), "--split", "standard"]) == 0
    assert (tmp_path / "o" / f"{cache_path.name}-standard" / "knn.json").exists()
    assert not (finished / "evaluation").exists()
    (tmp_path / "file").write_text("in the way")
    capsys.readouterr()
    assert evaluate.main([*command, "--out", str(tmp_path / "file")]) == 0
    printed = capsys.readouterr()
    assert "1-NN" in printed.out
    assert "choose --out" in printed.err


def test_streams_are_trained_evaluated_and_fused(
    run: Callable[..., int],
    finished: Path,
    cache_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bones = tmp_path / "bones"
    assert run(out=bones, steps=2, model__encoder__stream="bone") == 0
    assert SLiMEncoder.from_pretrained(bones).config.stream == "bone"
    command = [finished, "--data", cache_path, "--seeds", 1]
    figures = figures_of(capsys, "knn", *command, "--stream", "joint,bone,motion")["knn"]
    assert list(figures)[:2] == ["1-NN, joint", "1-NN, bone"]
    assert "1-NN, joint + bone + motion" in figures
    figures = figures_of(capsys, "linear", *command, "--fuse", bones, finished)["linear"]
    name = f"joint + bone + joint of {finished}"
    assert f"logistic regression, {name}" in figures
    # one stream is evaluated by every protocol, beside coordinates of that stream
    figures = figures_of(capsys, "knn", *command, "--stream", "bone")["knn"]
    assert "mAP" in figures
    own = figures_of(capsys, "knn", bones, *command[1:])["knn"]
    assert own["1-NN"]["coordinates"] == figures["1-NN"]["coordinates"]
    for words, says in (
        (["semi", "--stream", "joint,bone"], "Several streams are fused by knn and linear"),
        (["knn", "--stream", "joint,bone", "--parts"], "--parts reads one stream"),
        (["finetune", "--windows"], "finetune reads no --windows: leave it out, or choose knn or"),
        (["semi", "--parts"], "semi reads no --parts"),
        (["knn", "--classifiers", bones], "knn reads no --classifiers"),
        (["knn", "--stream", "bones"], "--stream bones: choose of joint, bone, motion"),
        (["knn", "--fuse", str(tmp_path / "no")], "no folder or file"),
    ):
        assert evaluate.main([words[0], *map(str, [*command, *words[1:]])]) == 2
        said = capsys.readouterr().err
        assert says in said
        assert len(said.splitlines()) == 1
