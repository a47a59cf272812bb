"""What a run shows of its inside: a trace, the time of each part of a step, memory, the ceiling."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.flops.closed_form import slim_encoder, slim_tokens
from slim_fast.model.encoder import EncoderConfig
from slim_fast.training import work
from slim_fast.training.monitor import read_metrics
from slim_fast.training.profile import COMMUNICATION, PARTS, StepProfile, sum_parts
from slim_fast.training.trainer import Trainer


def test_a_trace_and_the_parts_of_a_step(
    run: Callable[..., int],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Callable[[Path], dict[str, Any]],
    same: Callable[[Any, Any], bool],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(log__profile=2) == 0
    folder = tmp_path / "run"
    events = json.loads(gzip.decompress((folder / "trace.json.gz").read_bytes()))["traceEvents"]
    named = [e["name"] for e in events if e.get("cat") == "user_annotation"]
    # the optimiser's range is entered before and after the finite check
    assert {name: named.count(name) for name in PARTS} == {
        "data": 2,
        "forward": 2 * 2,
        "loss": 2,
        "backward": 2,
        "optimizer": 2 * 2,
    }
    (record,) = (r for r in read_metrics(folder / "metrics.jsonl") if "milliseconds_data" in r)
    assert record["step"] == 5  # three to warm up, two that are traced
    assert all(record[f"milliseconds_{name}"] > 0 for name in PARTS)
    assert "a step's parts: data " in capsys.readouterr().err
    changed = outcome(folder)
    changed["metrics"].remove(record)
    assert same(changed, uninterrupted)  # watching changes nothing


def test_parts_of_events() -> None:
    def event(name: str, microseconds: float, device: str = "CPU") -> SimpleNamespace:
        return SimpleNamespace(
            name=name,
            device_type=SimpleNamespace(name=device),
            time_range=SimpleNamespace(elapsed_us=lambda: microseconds),
        )

    events = [
        *(
            event("forward", 10),
            event("loss", 4),
            event("aten::mm", 3),
            event("gloo:all_reduce", 2),
        ),
        *(event("forward", 7, "CUDA"), event("ncclDevKernel_AllReduce_Sum_f32_RING", 5, "CUDA")),
    ]
    host, device = sum_parts(events, "cpu"), sum_parts(events, "cuda")
    assert (host["forward"], host["loss"], host[COMMUNICATION]) == (6, 4, 2)
    assert (device["forward"], device["loss"], device[COMMUNICATION]) == (7, 0, 5)


def test_a_run_that_ends_early_is_traced_as_far_as_it_goes() -> None:
    profile = StepProfile(6, 8, 5, torch.device("cpu"))
    assert profile.count == 2
    assert [profile.is_due(profile.step(lambda step: step + 1, step)) for step in (6, 7)] == [
        False,
        True,
    ]
    profile.stop()


def test_operations_are_those_that_are_counted(tiny_trainer: Callable[..., Trainer]) -> None:
    config = EncoderConfig()
    tokens = slim_tokens(config, 64)
    formula = slim_encoder(config, 64).matmuls
    assert work.count_encoder(config, 64, 1, tokens, 25, 3) == pytest.approx(formula, rel=1e-12)
    sizes = {"width": 64, "depth": 3, "heads": 2}
    trainer = tiny_trainer(
        batch=8,
        **{f"model__encoder__{name}": value for name, value in sizes.items()},
        **{"model__head__hidden": 64, "model__head__bottleneck": 32},
    )
    needed = work.count_step(trainer.config, 5, 3)
    with FlopCounterMode(display=False) as counter:
        trainer.step(0)
    assert needed == pytest.approx(counter.get_total_flops(), rel=0.02)
    visible = tiny_trainer(model__encoder__attention="visible").config
    assert work.count_step(visible, 5, 3) is None  # masks decide


def test_share_of_the_ceiling(
    tiny_trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = tiny_trainer()
    found = work.describe_load(trainer, 100.0)
    assert found.keys() <= {"peak_memory"}  # a CPU's ceiling is not known
    cuda, units = torch.device("cuda"), SimpleNamespace(multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: units)
    assert work.matrix_ceiling(cuda, torch.bfloat16) == pytest.approx(989e12, rel=1e-3)
    assert work.matrix_ceiling(cuda, torch.float32) is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    assert work.matrix_ceiling(cuda, torch.bfloat16) is None
    monkeypatch.setattr(work, "matrix_ceiling", lambda device, dtype: 1e9)
    needed = work.count_step(trainer.config, 5, 3)
    assert needed is not None
    share = work.describe_load(trainer, 100.0)["share_of_ceiling"]
    assert share == pytest.approx(100 / 4 * needed / 1e9)
