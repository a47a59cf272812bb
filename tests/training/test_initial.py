"""Pre-training that starts from an encoder's weights."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slim_fast import SLiMEncoder
from slim_fast.data.clips import Clip
from slim_fast.errors import UserError
from slim_fast.interop.initial import load_initial_weights
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.files import load_encoder
from slim_fast.skeletons import Topology, get_topology
from slim_fast.training.output import progress_shown
from slim_fast.training.trainer import Trainer

TINY = EncoderConfig(width=16, depth=1, heads=1)
Same = Callable[[Any, Any], bool]


@pytest.fixture
def first_weights(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Filled with the encoders' weights as the first step meets them."""
    met: dict[str, Any] = {}
    step = Trainer.step

    def watched(self: Trainer, number: int) -> Any:
        if not met:
            for name in ("student", "teacher"):
                encoder = getattr(self.model, name).encoder
                met[name] = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
            met["step"] = number
        return step(self, number)

    monkeypatch.setattr(Trainer, "step", watched)
    return met


def test_student_and_teacher_start_from_it(
    run: Callable[..., int],
    whole_run: Path,
    tmp_path: Path,
    first_weights: dict[str, Any],
    same: Same,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(init=whole_run) == 0
    weights = dict(load_encoder(whole_run / "encoder").state_dict())
    assert same(first_weights["student"], weights)
    assert same(first_weights["teacher"], weights)
    assert f"Starting from the encoder in {whole_run}.\n" in capsys.readouterr().out
    for file in ("config.json", "summary.json"):
        assert json.loads((tmp_path / "run" / file).read_text())["init"] == str(whole_run)


@pytest.mark.parametrize("named_again", [True, False])
def test_resumed_it_is_not_read_again(
    named_again: bool,
    run: Callable[..., int],
    refused: Callable[..., str],
    whole_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Callable[[Path], dict[str, Any]],
    same: Same,
) -> None:
    source = shutil.copytree(whole_run / "encoder", tmp_path / "source")
    assert run(init=source, out=tmp_path / "whole") == 0
    step = Trainer.step

    def stopping(self: Trainer, number: int) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stopping)
        assert run(init=source) == 143
    shutil.rmtree(source)
    assert "init: " in refused(init=tmp_path / "another")
    assert run(init=source if named_again else None) == 0
    assert same(outcome(tmp_path / "run"), outcome(tmp_path / "whole"))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["init"] == str(source)


def test_joints_in_another_order_are_told_by_their_names(
    run: Callable[..., int],
    whole_run: Path,
    arm: Topology,
    clips: list[Clip],
    write_cache: Callable[..., Path],
    first_weights: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    backwards = Topology(
        name="arm-5-backwards",
        joints=arm.joints[::-1],
        parents=(1, 2, 3, 4, -1),
        mirror=arm.mirror,
        parts={"trunk": (4, 3), "left_arm": (2, 1, 0)},
        centre=3,
    )
    turned = [replace(clip, positions=np.asarray(clip.positions)[:, ::-1].copy()) for clip in clips]
    assert run(init=whole_run, data=write_cache(turned, backwards)) == 0
    weights = load_encoder(whole_run / "encoder").state_dict()
    positions = weights["pos_embed"]
    expected = torch.cat([positions[:, :1], positions[:, 1:].flip(1)], 1)
    for encoder in (first_weights["student"], first_weights["teacher"]):
        assert torch.equal(encoder["pos_embed"], expected)
        assert torch.equal(encoder["patch_embed.proj.weight"], weights["patch_embed.proj.weight"])
    said = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("Starting from")
    ]
    assert len(said) == 1
    assert "arm-5 (xyz)" in said[0]
    assert "arm-5-backwards (xyz) by the joints' names" in said[0]


def test_other_channels_and_another_skeleton(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = SLiMEncoder("ntu-25", "xyz", TINY)
    source.save_pretrained(tmp_path)
    with progress_shown():
        weights = load_initial_weights(str(tmp_path), get_topology("coco-17"), "xy", TINY)
    expected = source.to_skeleton("coco-17", "xy").state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert "carried over to coco-17 (xy)" in capsys.readouterr().out


def test_sizes_that_differ_are_named_with_their_options(
    refused: Callable[..., str], run: Callable[..., int], whole_run: Path
) -> None:
    sentence = refused(init=whole_run, **{"model.encoder.width": 8, "model.encoder.depth": 2})
    options = "--model.encoder.width 16 --model.encoder.depth 1"
    assert sentence.endswith(f"(width 8, depth 2): add {options}.")
    assert "--model.encoder.ffn_ratio 4.0" in refused(
        init=whole_run, **{"model.encoder.ffn_ratio": 2.0}
    )
    assert run(init=whole_run) == 0
    assert "heads" not in sentence


def test_attention_may_be_another(run: Callable[..., int], whole_run: Path) -> None:
    assert run(init=whole_run, **{"model.encoder.attention": "visible"}) == 0


def test_weights_without_names(
    arm: Topology, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = SLiMEncoder(5, "xyz", TINY)
    path = tmp_path / "slim.pth"
    torch.save(
        {"teacher": {f"backbone.{name}": tensor for name, tensor in source.state_dict().items()}},
        path,
    )
    with progress_shown():
        weights = load_initial_weights(str(path), arm, "xyz", TINY)
    assert all(torch.equal(weights[name], tensor) for name, tensor in source.state_dict().items())
    said = capsys.readouterr().out
    assert "are taken for those of arm-5, in this order" in said
    assert "heads are not written down and are taken to be 1" in said
    with pytest.raises(
        UserError, match=r"of 5 joints without names, and the data are of 17 \(coco-17\)"
    ):
        load_initial_weights(str(path), get_topology("coco-17"), "xyz", TINY)


def test_sources_that_are_none(
    refused: Callable[..., str], whole_run: Path, tmp_path: Path
) -> None:
    assert str(tmp_path / "nothing") in refused(init=tmp_path / "nothing")
    (tmp_path / "words.pth").write_text("words")
    assert "words.pth cannot be read" in refused(init=tmp_path / "words.pth")
    broken = shutil.copytree(whole_run / "encoder", tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"")
    assert "model.safetensors cannot be read" in refused(init=broken)
    assert not (tmp_path / "run" / "checkpoints").exists()
