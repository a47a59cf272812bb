"""The command: what it trains, that it goes on where it was stopped, its table, what it refuses."""

import json
import os
import shutil
import signal
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slim_fast import ablate
from slim_fast.data import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.data.synthetic import write_synthetic
from slim_fast.skeletons import get_topology
from slim_fast.training.trainer import Trainer

TINY = """
precision: fp32
views: {window: 16, local: [{window: 8, count: 1}]}
model: {encoder: {width: 16, depth: 1, heads: 1}, head: {hidden: 8, bottleneck: 8, prototypes: 8}}
log: {knn_every: 9}
"""
FIGURES = ("knn_top1", "linear_top1")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ClipCache:
    path = tmp_path_factory.mktemp("data") / "cache"
    return write_synthetic(path, subjects=4, repetitions=1, actions=("wave", "kick"))


@pytest.fixture
def call(cache: ClipCache, tmp_path: Path) -> Callable[..., int]:
    """The smallest ablation: exit status."""
    (tmp_path / "tiny.yaml").write_text(TINY)

    def run(what: str = "objectives", *words: str, data: Path = cache.path, **options: Any) -> int:
        given = {"data": data, "steps": 2, "batch": 2, "seeds": 1, "threads": 1, "device": "cpu"}
        given |= {"config": tmp_path / "tiny.yaml", "out": tmp_path / "out", **options}
        return ablate.main([what, *(f"--{k}={v}" for k, v in given.items()), *words])

    return run


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "table.json").read_text())


def figures(folder: Path) -> dict[tuple[str, int], list[float]]:
    """(row, seed) -> its figures, in the record."""
    return {
        (row, run["seed"]): [run[name] for name in FIGURES]
        for row, entry in record(folder)["rows"].items()
        for run in entry["runs"]
    }


def test_rows_and_seeds_become_a_table_and_nothing_is_repeated(
    call: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert call("objectives", "--rows", "both", "cl") == 0
    printed = capsys.readouterr().out
    assert "Run 1 of 2: cl, seed 0\n" in printed
    assert "Run 2 of 2: both, seed 0; about " in printed
    first = figures(tmp_path / "out")
    assert list(first) == [("cl", 0), ("both", 0)]

    step = Trainer.step
    trained: list[tuple[int, list[Any]]] = []

    def noted(self: Trainer, number: int) -> Any:
        trained.append((self.config.seed, self.config.views.local))
        return step(self, number)

    monkeypatch.setattr(Trainer, "step", noted)
    assert call("objectives", "--rows", "both", "cl") == 0
    assert not trained
    assert call("objectives", "--rows", "cl", seeds=2) == 0
    assert trained == [(1, []), (1, [])]
    printed = capsys.readouterr().out
    assert "2 of 2 runs are done." in printed
    assert "Run 2 of 2: cl, seed 1\n" in printed

    out = tmp_path / "out"
    made = record(out)
    assert figures(out) | first == figures(out)
    assert set(figures(out)) == {("cl", 0), ("cl", 1), ("both", 0)}
    for (row, seed), values in figures(out).items():
        summary = json.loads((out / row / f"seed-{seed}" / "summary.json").read_text())
        assert values == [summary[name] for name in FIGURES]
        assert summary["steps"] == 2
    for name in FIGURES:
        values = [run[name] for run in made["rows"]["cl"]["runs"]]
        figure = made["rows"]["cl"]["figures"][name]
        assert figure["mean"] == statistics.fmean(values)
        assert figure["std"] == statistics.stdev(values)
    assert made["rows"]["cl"]["changes"]["views.local"] == []
    assert made["settings"]["model"]["encoder"]["width"] == 16
    assert made["command"].endswith("--rows cl")
    page = (out / "table.md").read_text()
    cl = made["rows"]["cl"]["figures"]["knn_top1"]
    assert f"{100 * cl['mean']:.1f} ± {100 * cl['std']:.1f}" in page
    assert "87.9 (X-Sub)" in page
    assert "(cpu, float32, 1 threads, torch " in page
    table = [line for line in page.splitlines() if line.startswith("| ")]
    assert [line.split()[1] for line in table[2:]] == ["cl:", "both:", "random", "coordinates"]
    assert all(line in printed for line in table)


def test_a_stopped_one_goes_on(
    call: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ("masking", "--rows", "random", "tube")
    assert call(*rows, out=tmp_path / "whole") == 0
    step = Trainer.step

    def stopping(self: Trainer, number: int) -> Any:
        if number == 1 and self.config.views.mask.kind == "tube":
            monkeypatch.setattr(Trainer, "step", step)
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number)

    monkeypatch.setattr(Trainer, "step", stopping)
    assert call(*rows, steps=3, out=tmp_path / "stopped") == 128 + signal.SIGTERM
    stopped = tmp_path / "stopped"
    assert list(figures(stopped)) == [("random", 0)]
    assert (stopped / "tube" / "seed-0" / "checkpoints" / "step-00000002.pt").exists()
    assert call(*rows, steps=3, out=stopped) == 0
    assert call(*rows, steps=3, out=tmp_path / "again") == 0
    assert figures(stopped) == figures(tmp_path / "again")
    ours, other = (
        f / "tube" / "seed-0" / "encoder" / "model.safetensors"
        for f in (stopped, tmp_path / "again")
    )
    assert ours.read_bytes() == other.read_bytes()


@pytest.fixture
def begun(call: Callable[..., int], tmp_path: Path) -> Path:
    """The folder of an ablation's record, without the runs."""
    assert call("objectives", "--rows", "mfm", steps=1) == 0
    shutil.rmtree(tmp_path / "out" / "mfm")
    return tmp_path / "out"


def test_what_does_not_fit_is_one_sentence(
    call: Callable[..., int], begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topology = get_topology("ntu-25")
    clips = np.random.default_rng(0).normal(scale=0.35, size=(4, 20, 25, 3, 1))
    for name, label in (("unlabelled", -1), ("others", 0)):
        with CacheWriter(tmp_path / name, topology, classes=["a"]) as writer:
            for number, clip in enumerate(clips):
                side = "test" if number == 3 else "train"
                writer.add(Clip(clip, f"clip{number}", label, split={"s": side}))
    (tmp_path / "a-run").mkdir()
    (tmp_path / "a-run" / "config.json").write_text("{}")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "table.json").write_text("{")
    (tmp_path / "changed").mkdir()
    changed = json.loads((begun / "table.json").read_text())
    changed["rows"] = {row: {"runs": [{"seed": 0}]} for row in changed["rows"]}
    (tmp_path / "changed" / "table.json").write_text(json.dumps(changed))
    before = (begun / "table.json").read_bytes()
    cases: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        (("objectives", "--rows", "tube"), {}, "The ablation objectives has no row 'tube'"),
        (("objectivs",), {}, "did you mean objectives?"),
        (
            ("masking",),
            {"steps": 1},
            "holds another ablation (ablation: 'objectives' -> 'masking')",
        ),
        (("objectives",), {"steps": 2}, "holds another ablation (settings.steps: 1 -> 2)"),
        (("objectives",), {"steps": 1, "data": tmp_path / "others"}, "another ablation (data."),
        (("objectives",), {"data": tmp_path / "unlabelled"}, "has no labelled training clips"),
        (("objectives",), {"data": tmp_path / "nowhere"}, "is not a clip cache"),
        (("objectives",), {"out": tmp_path / "a-run"}, "is the folder of a run"),
        (("objectives",), {"out": tmp_path / "damaged"}, "table.json is damaged"),
        (("objectives",), {"steps": 1, "out": tmp_path / "changed"}, "table.json cannot be read"),
        (("objectives",), {"seeds": 0}, "seeds=0: at least one seed is needed."),
        (("objectives",), {"preset": "mae-small"}, "preset"),
        (("objectives",), {"steps": 0}, "steps=0: must be"),
    ]
    for words, options, says in cases:
        capsys.readouterr()
        assert call(*words, **options) == 2, (words, options)
        error = capsys.readouterr().err
        assert says in error
        assert error.startswith("error: ")
        assert error.count("\n") == 1, error
    assert (begun / "table.json").read_bytes() == before
    assert not (begun / "cl").exists()
