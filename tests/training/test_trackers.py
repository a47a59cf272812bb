"""Weights & Biases and MLflow: what a run sends, by stand-ins and by the libraries themselves."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from slim_fast.training.trackers import IDENTITY


class StandIns:
    """Both libraries, as far as a run calls them."""

    def __init__(self) -> None:
        self.began: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.ended = 0
        self.id, self.info = "abc", SimpleNamespace(run_id="abc")

    def begin(self, **settings: Any) -> "StandIns":
        self.began.append(settings)
        return self

    def log(self, values: dict[str, float]) -> None:
        step = int(values.pop("step"))
        self.logged.append((step, values))

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.logged.append((step, values))

    def end(self) -> None:
        self.ended += 1

    def ignore(self, *_: Any, **__: Any) -> None: ...


@pytest.fixture
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StandIns:
    found, module = StandIns(), ModuleType(request.param)
    names = {
        "wandb": {"init": found.begin},
        "mlflow": {
            "start_run": found.begin,
            "set_experiment": found.ignore,
            "log_dict": found.ignore,
            "log_metrics": found.log_metrics,
            "end_run": found.end,
        },
    }[request.param]
    found.finish, found.define_metric = found.end, found.ignore  # type: ignore[attr-defined]
    vars(module).update(names)
    monkeypatch.setitem(sys.modules, request.param, module)
    return found


@pytest.mark.parametrize(
    ("library", "name"), [("wandb", "wandb"), ("mlflow", "mlflow")], indirect=["library"]
)
def test_a_run_and_its_resumption_are_one_run_there(
    library: StandIns, name: str, run: Callable[..., int], tmp_path: Path
) -> None:
    assert run(log__tracker=name, steps=4) == 0
    assert run(log__tracker=name) == 0
    folder = tmp_path / "run"
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    sent = [{"step": step, **values} for step, values in library.logged]
    assert sent == [record for record in records if "changed" not in record]
    assert json.loads((folder / IDENTITY).read_text()) == {name: "abc"}
    key = {"wandb": "id", "mlflow": "run_id"}[name]
    assert [settings[key] for settings in library.began] == [None, "abc"]
    assert library.ended == 2


@pytest.mark.parametrize("library", ["mlflow"], indirect=True)
@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[1]", b'{"mlflow": 3}', b"[" * 3000])
def test_a_damaged_identity(
    library: StandIns, content: bytes, refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / IDENTITY).write_bytes(content)
    sentence = refused(log__tracker="mlflow")
    assert sentence == (
        f"{tmp_path / 'run' / IDENTITY} is damaged; delete it, and mlflow begins a new run."
    )
    assert not library.began


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_without_the_library(
    name: str, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    sentence = refused(log__tracker=name)
    assert sentence == (
        f'log.tracker={name} needs {name}: pip install "slim_fast[{name}]", or leave it out.'
    )


def test_by_mlflow(
    run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # else a data base, which it lacks
    assert run(log__tracker="mlflow", steps=2) == 0
    identity = json.loads((tmp_path / "run" / IDENTITY).read_text())["mlflow"]
    history = mlflow.MlflowClient().get_metric_history(identity, "loss")
    assert [metric.step for metric in history] == [1, 2]


def test_by_wandb_offline(
    run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert run(log__tracker="wandb", steps=2) == 0
    identity = json.loads((tmp_path / "run" / IDENTITY).read_text())["wandb"]
    assert list((tmp_path / "run" / "wandb").glob(f"offline-run-*-{identity}/*.wandb"))
