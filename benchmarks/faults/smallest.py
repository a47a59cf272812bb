"""The smallest run, and what it has computed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.faults.processes import Processes
from slim_fast import pretrain
from slim_fast.data import CacheWriter
from slim_fast.data.clips import Clip
from slim_fast.skeletons import Topology

STEPS = 24
SETTINGS = {
    "steps": STEPS,
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
    "log.metrics_every": 1,
    "log.knn_every": 12,
    "log.checkpoint_every": 3,
    "log.keep": 3,
    "log.plots": False,
}
_TIMING = ("seconds", "samples_per_second", "peak_memory")


def write_cache(path: Path) -> None:
    """A dozen clips of an arm."""
    arm = Topology(
        name="arm-5",
        joints=("hip", "chest", "shoulder", "elbow", "hand"),
        parents=(-1, 0, 1, 2, 3),
        mirror=(0, 1, 2, 3, 4),
        parts={"trunk": (0, 1), "left_arm": (2, 3, 4)},
        centre=1,
    )
    random = np.random.default_rng(0)
    with CacheWriter(path, arm) as writer:
        for number in range(12):
            frames = np.arange(20 + number)[:, None, None, None]
            phases = random.uniform(0, 6, (1, 5, 3, 1))
            side = "test" if number % 3 == 2 else "train"
            positions = 1 + np.sin(0.3 * (1 + number % 2) * frames + phases)
            clip = Clip(positions, f"clip{number:02d}", number % 2, 0, split={"standard": side})
            writer.add(clip)


def start(data: Path, out: Path, size: int, log: Path, prepare: Any = None) -> Processes:
    """Begin or resume the run in `out` on `size` processes; prepare() is called in each first."""
    fields = {"data": data, "out": out, **SETTINGS}
    words = [f"--{name}={value}" for name, value in fields.items()]

    def work() -> int:
        if prepare is not None:
            prepare()
        return pretrain.main(words)

    return Processes(size, log, work)


def read_outcome(out: Path) -> dict[str, Any]:
    """Everything that a finished run has computed, which no fault may change by a bit."""
    last = sorted((out / "checkpoints").glob("*.pt"))[-1]
    state = torch.load(last, weights_only=True)
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return {
        "state": _without_timing(state),
        "metrics": [_without_timing(record) for record in records],
        "summary": _without_timing(summary),
        "encoder": (out / "encoder" / "model.safetensors").read_bytes(),
    }


def _without_timing(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _TIMING}


def are_same(a: Any, b: Any) -> bool:
    """Equality to the last bit of nested dicts, lists and tensors."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(are_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(are_same, a, b))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return bool(a == b)
