"""Readers of a run's files: settings, checkpoints, records."""

import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest.mock import MagicMock, patch

from slim_fast import SLiMEncoder, pretrain
from slim_fast.ablation.table import KEYS, add_run, is_done, open_record, write_record
from slim_fast.evaluation.protocols.results import read_results
from slim_fast.reporting.accuracies import make_accuracy_table, select_results
from slim_fast.reporting.plots import plot_curves
from slim_fast.reporting.run_files import RunFiles
from slim_fast.training import run
from slim_fast.training.checkpoint import Checkpoints
from slim_fast.training.config import LogConfig, PretrainConfig
from slim_fast.training.folder import begin_run
from slim_fast.training.lock import RunLock
from slim_fast.training.summary import show_finished
from slim_fast.training.trackers import open_tracker
from tests.fuzz.target import Target, small_encoder, write_cache
from tests.training.conftest import TINY


def _write_checkpoint(folder: Path) -> None:
    encoder = small_encoder()
    described = {
        "config": {"width": 8, "depth": 1, "heads": 1},
        "topology": encoder.topology.to_dict(),
        "channels": "xyz",
        "more": {},
        "name": "teacher.encoder",
    }
    state = {
        "model": {f"teacher.encoder.{k}": v for k, v in encoder.state_dict().items()},
        "optimizer": {"state": {}, "param_groups": []},
        "clips": "0",
        "conditions": {"steps": 3},
        "encoder": described,
    }
    checkpoints = Checkpoints(folder / "checkpoints", keep=2)
    for step in (1, 2):
        checkpoints.save(step, {**state, "step": step, "seconds": 0.5})


@cache
def _tiny(steps: int) -> PretrainConfig:
    changes = {**TINY, "steps": steps, "batch": 2}
    return pretrain.parse([f"--{name}={value}" for name, value in changes.items()])


def _train(folder: Path, steps: int) -> None:
    paths = {"data": str(folder / "cache"), "out": str(folder / "run")}
    run.pretrain(replace(_tiny(steps), **paths))


def _write_unfinished(folder: Path) -> None:
    write_cache(folder / "cache")
    _train(folder, 2)


def _write_run(folder: Path) -> None:
    config = PretrainConfig(out="x").to_json()
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    records = [{"step": n, "loss": 1.0 / n, "knn_top1": 0.5} for n in range(1, 5)]
    records.append({"step": 2, "changed": {"threads": [1, 2]}})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    summary = {"steps": config["steps"], "samples": 10, "seconds": 3.0, "samples_per_second": 3.0}
    summary |= {"device": "cpu", "dtype": "float32", "knn_top1": 0.5, "changes": records[-1:]}
    (folder / "summary.json").write_text(json.dumps(summary))


def _read_run(folder: Path) -> None:
    if summary := begin_run(folder, PretrainConfig(out="x")):
        show_finished(folder, summary)


def _write_reported(folder: Path) -> None:
    _write_run(folder)
    (folder / "evaluation" / "knn").mkdir(parents=True)
    figures = {"1-NN": {"learned": {"mean": 0.5, "std": 0.1, "values": [0.4, 0.6]}}}
    record = {"encoder": "e", "cache": "c", "split": "xsub", "settings": {"people": 2}}
    text = json.dumps({**record, "protocol": "knn", "figures": figures})
    (folder / "evaluation" / "knn" / "results.json").write_text(text)


def _read_reported(folder: Path) -> None:
    files = RunFiles.read(str(folder))
    _ = files.facts(), files.settings(), files.views
    plot_curves(files.metrics, files.prototypes)
    fitting, _ = select_results(read_results(folder / "evaluation"), "e", "c", "xsub", 2)
    make_accuracy_table(fitting, files.summary, "xsub", 10)


def _open_ablation(folder: Path) -> dict[str, object]:
    about = {"ablation": "masking", "preset": "small", "data": {"name": "a", "split": "xsub"}}
    about |= {"settings": {"steps": 5, "batch": 4}, "command": "ablate", "slim_fast": "0"}
    return open_record(folder, about)


def _write_ablation(folder: Path) -> None:
    record = _open_ablation(folder)
    machine = dict.fromkeys(("processor", "device", "dtype", "threads", "torch"), "x")
    for seed in (0, 1):
        add_run(record, "tube", {}, {"seed": seed, **dict.fromkeys(KEYS, 0.5), **machine})
    write_record(folder, record)


def _read_ablation(folder: Path) -> None:
    record = _open_ablation(folder)
    is_done(record, "tube", 0)
    write_record(folder, record)


def _write_lock(folder: Path) -> None:
    with RunLock(folder):
        content = (folder / "lock").read_bytes()
    (folder / "lock").write_bytes(content)


def _read_lock(folder: Path) -> None:
    with RunLock(folder):
        pass


def _read_tracker(folder: Path) -> None:
    with patch.dict(sys.modules, mlflow=MagicMock()):
        open_tracker(folder, PretrainConfig(log=LogConfig(tracker="mlflow")))


def _write_yaml(folder: Path) -> None:
    text = "steps: 5\nbatch: 4\nviews:\n  window: 32\n  interval: [0.5, 1.0]\nlog: {keep: 2}\n"
    (folder / "run.yaml").write_text(text)


TARGETS: dict[str, Target] = {
    "checkpoint": Target(_write_checkpoint, SLiMEncoder.from_pretrained),
    "resumed run": Target(_write_unfinished, lambda folder: _train(folder, 3), 0.1),
    "run": Target(_write_run, _read_run),
    "reported run": Target(_write_reported, _read_reported),
    "ablation": Target(_write_ablation, _read_ablation),
    "lock": Target(_write_lock, _read_lock),
    "tracker": Target(
        lambda folder: (folder / "tracker.json").write_text('{"mlflow": "abc", "wandb": "d"}'),
        _read_tracker,
    ),
    "configuration": Target(
        _write_yaml, lambda folder: pretrain.parse(["--config", str(folder / "run.yaml")]), 0.1
    ),
}
