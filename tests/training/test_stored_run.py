"""A few steps of training whose losses are on record: no change of the code may change them unseen.

Where the record's processor, PyTorch and number of threads are at hand, the losses are the same bit
for bit. Elsewhere sums are taken in another order, and those in float64 must agree to TOLERANCE.
A run that version 0.1.0 began must go on in the same way.

Write the record anew only when the mathematics is meant to change (another default, a corrected
loss, another random number), and say which:

    python tests/training/test_stored_run.py "KoLeo is weighted by 0.2"
"""

import json
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slim_fast.data import CacheWriter, ClipCache
from slim_fast.data.clips import Clip
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.heads import HeadConfig
from slim_fast.model.slim import ModelConfig
from slim_fast.skeletons import get_topology
from slim_fast.training.config import OptimConfig, PretrainConfig
from slim_fast.training.teacher import load_unfinished_teacher
from slim_fast.training.trainer import Trainer
from slim_fast.views.masks import MaskConfig
from slim_fast.views.pipeline import LocalViewConfig, ViewsConfig
from slim_fast.views.store import FrameStore

RECORD = Path(__file__).with_name("stored_run.json")
TOLERANCE = 1e-5
"""Relative. PyTorch without AVX draws weights and noise with another last bit, by which losses and
norms differ by up to 2.4e-6.
"""
EARLIER = Path(__file__).with_name("run_of_0.1.0")  # stopped after 5 of 8 steps
RUNS = ["recipe", "visible", "motion", "random"]
STEPS = 6


def config(run: str) -> PretrainConfig:
    """The recipe in small, or a variant of it."""
    locals_ = [LocalViewConfig(16, 2, (0.3, 0.7)), LocalViewConfig(8, 1, (0.15, 0.4))]
    kind: Any = run if run in ("motion", "random") else "tube"
    attention: Any = "visible" if run == "visible" else "all"
    encoder = EncoderConfig(width=32, depth=2, heads=2, attention=attention)
    return PretrainConfig(
        steps=STEPS,
        batch=6,
        threads=1,
        device="cpu",
        precision="fp32",
        views=ViewsConfig(window=32, local=locals_, mask=MaskConfig(kind=kind)),
        model=ModelConfig(encoder, HeadConfig(hidden=48, bottleneck=16, prototypes=40)),
        optim=OptimConfig(learning_rate=0.02, warmup=0.4, freeze_prototypes=0.2),
    )


def write_clips(folder: Path, run: str) -> ClipCache:
    """Eight clips of waving people, by sums and products alone, which every machine rounds alike.

    For the runs with other masks than tubes some joints are not detected.
    """
    topology = get_topology("ntu-25")
    with CacheWriter(folder, topology) as writer:
        for number in range(8):
            time = np.arange(10 + 9 * number)[:, None, None, None]
            joint, axis = np.arange(25)[:, None, None], np.arange(3)[:, None]
            phase = (time * (3 + joint % 7 + 2 * axis + number) / 256 + joint / 32) % 2 - 1
            positions = 1 + axis + joint / 64 + phase * (1 - abs(phase))
            if run in ("motion", "random"):
                positions[number:, 3 + number :: 9] = 0
            writer.add(Clip(positions, f"clip{number}"))
    return ClipCache.open(folder)


def train(run: str, dtype: torch.dtype, folder: Path) -> list[dict[str, float]]:
    """The losses and the gradient norm of every step, of weights and clips in `dtype`."""
    settings = config(run)
    trainer = Trainer(settings, FrameStore(write_clips(folder, run)))
    trainer.model.to(dtype)
    sampler = trainer.sampler

    def sample(clip: torch.Tensor, step: int, part: slice) -> Any:
        views = sampler(clip, step, part)
        groups = [replace(group, clips=group.clips.to(dtype)) for group in views.groups]
        return replace(views, groups=groups)

    trainer.sampler = sample  # type: ignore[assignment]
    steps = [trainer.step(step)[0] for step in range(settings.steps)]
    return [{name: value.item() for name, value in losses.items()} for losses in steps]


def conditions() -> dict[str, Any]:
    """What the last bit of a sum depends on."""
    processor = platform.machine()
    with suppress(OSError):
        about = Path("/proc/cpuinfo").read_text()
        fields = re.findall(r"^(?:vendor_id|cpu family|model)\s*: (.*)$", about, re.MULTILINE)
        processor = " ".join([processor, *fields[:3]])
    return {
        "processor": processor,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
    }


@pytest.fixture
def record() -> dict[str, Any]:
    return json.loads(RECORD.read_text())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("run", RUNS)
def test_training_is_as_recorded(
    run: str, dtype: str, record: dict[str, Any], tmp_path: Path
) -> None:
    same_machine = record["conditions"] == conditions()
    if not same_machine and dtype == "float32":
        pytest.skip(f"recorded on {record['conditions']}, this is {conditions()}")
    losses = train(run, getattr(torch, dtype), tmp_path / "cache")
    for step, (now, before) in enumerate(zip(losses, record["losses"][run][dtype], strict=True)):
        if not same_machine:
            before = pytest.approx(before, rel=TOLERANCE)
        assert now == before, f"step {step}"


def test_an_earlier_versions_run_goes_on(
    run: Callable[..., int],
    tmp_path: Path,
    record: dict[str, Any],
    uninterrupted: dict[str, Any],
    outcome: Callable[[Path], dict[str, Any]],
    same: Callable[[Any, Any], bool],
) -> None:
    shutil.copytree(EARLIER, tmp_path / "run")
    assert load_unfinished_teacher(tmp_path / "run") is not None
    assert run() == 0
    now = outcome(tmp_path / "run")
    assert now["state"]["step"] == 8
    if record["conditions"] == conditions():
        assert same(now, uninterrupted)


def test_the_record_says_why_it_was_written(record: dict[str, Any]) -> None:
    assert record["reason"]


def write_record(reason: str) -> None:
    torch.set_num_threads(1)
    losses: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for run in RUNS:
            for dtype in (torch.float32, torch.float64):
                cache = Path(folder) / f"{run}-{dtype}"
                losses.setdefault(run, {})[str(dtype)[6:]] = train(run, dtype, cache)
    record = {"reason": reason, "conditions": conditions(), "losses": losses}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].strip():
        sys.exit(f'usage: python {sys.argv[0]} "why the losses change"')
    write_record(sys.argv[1])
