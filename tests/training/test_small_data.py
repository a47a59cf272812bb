"""Data with little in it still trains and finishes."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from slim_fast.data.clips import Clip

ACCURACIES = [
    f"{p}_top1{s}" for p in ("knn", "linear") for s in ("", "_random_encoder", "_coordinates")
]


@pytest.fixture
def finish(
    run: Callable[..., int],
    write_cache: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., dict[str, Any]]:
    """Train on `clips` and return the summary."""

    def call(clips: list[Clip], **changes: Any) -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message="a batch of")
            warnings.filterwarnings("ignore", message=".* that no training clip is of")
            assert run(data=write_cache(clips), **changes) == 0
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        assert (tmp_path / "run" / "encoder" / "model.safetensors").exists()
        return json.loads((tmp_path / "run" / "summary.json").read_text())

    return call


def test_full_summary(finish: Callable[..., dict[str, Any]], clips: list[Clip]) -> None:
    summary = finish(clips)
    assert all(0 <= summary[name] <= 1 for name in ACCURACIES)
    assert summary["seconds"] > 0
    assert summary["samples_per_second"] > 0
    assert (summary["clips"], summary["samples"]) == (8, 32)


def test_without_labels(
    finish: Callable[..., dict[str, Any]], clips: list[Clip], tmp_path: Path
) -> None:
    summary = finish([replace(clip, label=-1) for clip in clips], log__plots=True)
    assert [summary[name] for name in ACCURACIES] == [None] * 6
    assert sorted(summary["plots"]) == ["losses.png", "views.png"]
    assert "knn_top1" not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_without_splits(finish: Callable[..., dict[str, Any]], clips: list[Clip]) -> None:
    summary = finish([replace(clip, split={}) for clip in clips])
    assert [summary[name] for name in ACCURACIES] == [None] * 6
    assert summary["clips"] == 12


def test_every_clip_of_a_split_cache(
    finish: Callable[..., dict[str, Any]], clips: list[Clip]
) -> None:
    summary = finish(clips, split="all")
    assert summary["clips"] == 12
    assert all(summary[name] is not None for name in ACCURACIES)


def test_one_clip(finish: Callable[..., dict[str, Any]], clips: list[Clip]) -> None:
    assert finish(clips[:1], log__plots=True)["clips"] == 1


def test_one_clip_on_each_side(finish: Callable[..., dict[str, Any]], clips: list[Clip]) -> None:
    summary = finish(clips[1:3], log__plots=True)
    assert summary["clips"] == 1
    assert summary["knn_top1"] in (0.0, 1.0)


@pytest.mark.parametrize("train", [2, 4, 5])
def test_a_few_training_clips(
    train: int, finish: Callable[..., dict[str, Any]], clips: list[Clip]
) -> None:
    chosen = [clip for clip in clips if clip.split["standard"] == "train"][:train]
    summary = finish([*chosen, clips[2]])
    assert all(0 <= summary[name] <= 1 for name in ACCURACIES)


def test_batch_larger_than_the_cache(
    finish: Callable[..., dict[str, Any]], clips: list[Clip]
) -> None:
    assert finish(clips, batch=27)["samples"] == 8 * 27


def test_batch_of_one(finish: Callable[..., dict[str, Any]], clips: list[Clip]) -> None:
    assert finish(clips, batch=1)["samples"] == 8


def test_one_step(finish: Callable[..., dict[str, Any]], clips: list[Clip]) -> None:
    assert finish(clips, steps=1, log__plots=True)["samples"] == 4


def test_one_frame_and_two_people(finish: Callable[..., dict[str, Any]], clips: list[Clip]) -> None:
    single = [replace(clip, positions=clip.positions[:1]) for clip in clips]
    pairs = [
        replace(clip, positions=clip.positions.repeat(2, axis=3), name=f"{clip.name}-pair")
        for clip in clips
    ]
    assert finish(single + pairs)["clips"] == 16


def test_plots_are_pictures(
    finish: Callable[..., dict[str, Any]], clips: list[Clip], tmp_path: Path
) -> None:
    plots = finish(clips, log__plots=True)["plots"]
    assert sorted(plots) == ["embedding.png", "knn.png", "losses.png", "views.png"]
    for name in plots:
        with Image.open(tmp_path / "run" / name) as picture:
            assert min(picture.size) > 100


@pytest.mark.parametrize(
    "name", ["mfm", "cl", "glcl", "mask-random", "mask-motion", "mask-tube-no-local"]
)
def test_every_ablation_trains(
    name: str, finish: Callable[..., dict[str, Any]], clips: list[Clip], tmp_path: Path
) -> None:
    local = {"views.local": None} if name in ("mfm", "cl") else {}
    finish(clips, preset=f"ablation-{name}", **local)
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    terms = {"contrastive", "masked", "koleo"} & set(last)
    assert terms == {
        "mfm": {"masked"},
        "cl": {"contrastive", "koleo"},
        "glcl": {"contrastive", "koleo"},
    }.get(name, {"contrastive", "masked", "koleo"})


def test_the_curve_is_drawn_beside_references_on_its_own_clips(
    finish: Callable[..., dict[str, Any]], clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[dict[str, float]] = []
    monkeypatch.setattr(
        "slim_fast.drawing.draw_knn",
        lambda steps, values, references, path: drawn.append(references) or path,
    )
    summary = finish(clips, log__plots=True, log__knn_clips=1)
    (references,) = drawn
    assert sorted(references) == ["coordinates", "random encoder"]
    assert all(value in (0.0, 1.0) for value in references.values())  # one clip is right or wrong
    assert 0.0 < summary["knn_top1_coordinates"] < 1.0


def warned(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("warning: ")]


@pytest.mark.parametrize("batch", [9, 64])
def test_a_batch_of_more_clips_than_there_are_is_said_once(
    run: Callable[..., int],
    write_cache: Callable[..., Path],
    clips: list[Clip],
    capsys: Any,
    batch: int,
) -> None:
    assert run(data=write_cache(clips), batch=batch, steps=3) == 0
    (line,) = warned(capsys.readouterr().err)
    assert f"a batch of {batch} clips from 8" in line


def test_classes_without_training_clips_are_said_once(
    run: Callable[..., int], write_cache: Callable[..., Path], clips: list[Clip], capsys: Any
) -> None:
    strange = [
        replace(
            clip,
            label=1 if clip.split.get("xsub") == "test" or "test" in clip.split.values() else 0,
        )
        for clip in clips
    ]
    assert run(data=write_cache(strange)) == 0
    (line,) = warned(capsys.readouterr().err)
    assert "tests 1 of 2 classes (1) that no training clip is of" in line


def test_more_threads_than_processors_are_said_once(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("slim_fast.training.run.count_processors", lambda: 2)
    monkeypatch.setattr("torch.set_num_threads", lambda number: None)
    assert run(threads=99, steps=2) == 0
    (line,) = [line for line in warned(capsys.readouterr().err) if "99" in line]
    assert "--threads 99 on 2 processors" in line
