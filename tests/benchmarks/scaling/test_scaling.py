"""What a step sends is what the model says, to the byte; times follow from it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.records.pages import RESULTS
from benchmarks.records.predictions import load_predictions
from benchmarks.records.scaling import load_scaling, scaling_tables
from benchmarks.scaling import __main__ as command
from benchmarks.scaling.collectives import (
    Collective,
    Sizes,
    build_model,
    list_collectives,
)
from benchmarks.scaling.network import Network, sent
from benchmarks.scaling.prediction import predict_step
from slim_fast.training.config import PretrainConfig

FOLDER = RESULTS.parent / "predictions"


def test_the_model_is_what_real_processes_send() -> None:
    rows = list(command.compare([1, 2, 4]))
    assert len(rows) == 6
    for row in rows:
        assert row["model"] == row["counted"]
        assert bool(sum(row["counted"].values())) == (row["processes"] > 1)
    kinds = {row["sharding"]: row["counted"].keys() for row in rows if row["processes"] == 4}
    assert kinds["ddp"] == {"all_reduce", "all_gather"}
    assert kinds["fsdp"] == {"all_reduce", "all_gather", "reduce_scatter"}


def test_what_the_recipe_sends() -> None:
    config = PretrainConfig()
    model = build_model(config, Sizes())
    weights = sum(x.numel() for x in model.student.parameters())
    ddp, fsdp = (list_collectives(config, model, 8, sharding) for sharding in ("ddp", "fsdp"))

    def total(found: list[Collective], purpose: str) -> int:
        return sum(c.bytes for c in found if c.purpose == purpose)

    assert total(ddp, "gradients") == pytest.approx(4 * weights, rel=1e-5)
    # rows that 8 cannot divide are padded, such as the one of CLS
    assert total(fsdp, "gradients") == pytest.approx(4 * weights, rel=2e-3)
    assert total(ddp, "Sinkhorn-Knopp") == 2 * (3 * 65536 + 1) * 4
    assert total(ddp, "KoLeo") == 768 * 2 * (256 * 4 + 8)
    blocks = sum(x.numel() for x in model.student.encoder.blocks.parameters())
    # student and teacher once, the student's blocks once more
    assert total(fsdp, "weights") == pytest.approx(4 * (2 * weights + blocks), rel=2e-3)
    assert list_collectives(config, model, 1, "ddp") == []
    with pytest.raises(ValueError, match="SLiM"):
        build_model(replace(config, method="mae"), Sizes())


def test_times_of_collectives() -> None:
    network, reduced = Network(), Collective("gradients", "all_reduce", 8_000_000_000, 1)
    assert sent(reduced, 8) == 14e9
    assert network.seconds(reduced, 1) == 0
    assert network.seconds(reduced, 8) == pytest.approx(14 / (0.8 * 450) + 16e-6)
    # 8 adapters of a node carry less than NVLink; three hops within a node, three across
    waits = 10e-6 + 2 * (3 * 1e-6 + 3 * 5e-6)
    assert network.seconds(reduced, 64) == pytest.approx(15.75 / (0.8 * 400) + waits)
    gathered = Collective("weights", "all_gather", 8_000_000_000, 1)
    assert sent(gathered, 8) == 7e9


def test_the_parts_of_a_predicted_step() -> None:
    (recorded,) = load_predictions(FOLDER)
    one, device = recorded["steps"][0], recorded["device"]
    alone = predict_step(one, device, 1, 768, "ddp")
    assert alone["gpu"] == pytest.approx(one["gpu"], rel=1e-3)  # and KoLeo's microseconds
    ddp, fsdp = (predict_step(one, device, 64, 768, kind) for kind in ("ddp", "fsdp"))
    assert ddp["limit"] == "host"
    assert ddp["gpu"] == pytest.approx(ddp["computing"] + ddp["koleo"] + ddp["waits"])
    assert fsdp["held"] == ddp["held"] / 64
    assert fsdp["sent"] > ddp["sent"]
    few, many = (predict_step(one, device, n, n * 768, "ddp") for n in (8, 512))
    assert many["koleo"] == pytest.approx(64 * few["koleo"])  # of as many among 64 times as many


def test_the_record_on_file_is_today_s() -> None:
    found = load_scaling(FOLDER)
    assert found is not None
    (recorded,) = load_predictions(FOLDER)
    for step in found["steps"]:
        keys = step["gpus"], step["batch"], step["sharding"]
        now = predict_step(recorded["steps"][0], recorded["device"], *keys)
        assert now.pop("sending") == pytest.approx(step.pop("sending"))
        assert now == {
            name: value if isinstance(value, str | bool) else pytest.approx(value)
            for name, value in step.items()
        }
    assert {(s["gpus"], s["sharding"]) for s in found["steps"]} == {
        (gpus, kind) for gpus in (8, 64, 512) for kind in ("ddp", "fsdp")
    }
    text = scaling_tables(load_scaling(FOLDER))
    assert text.count("| equal |") == 6
    assert "**differ**" not in text
    assert "Predicted, not measured." in text
    assert scaling_tables(None) == ""


def test_a_difference_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    row = {"processes": 2, "sharding": "ddp", "model": {"all_reduce": 8}}
    monkeypatch.setattr(
        command, "compare", lambda processes: [{**row, "counted": {"all_reduce": 4}}]
    )
    assert command.main([]) == 1
    printed = capsys.readouterr()
    assert "| 2 | DDP | 8 | 4 | **differ** |" in printed.out
    assert "disagree" in printed.err


def test_unknown_collectives_are_not_passed_over() -> None:
    from benchmarks.scaling.counting import CollectiveCounter

    assert CollectiveCounter().bytes == {}
    with CollectiveCounter() as counter:
        nn.Linear(2, 2)(torch.ones(1, 2))
    assert counter.bytes == {}
