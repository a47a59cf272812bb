"""Checkpoints that released versions wrote still load and give the outputs stored with them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from slim_fast import SLiMClassifier, SLiMEncoder
from tests.interop.checkpoints.stored.make import pretrain

VERSIONS = [path for path in (Path(__file__).parent / "stored").iterdir() if path.name[0].isdigit()]


def check(model: SLiMEncoder, version: Path, name: str) -> None:
    stored = load_file(version / "outputs.safetensors")
    output = model(stored[f"{name}.clips"])
    torch.testing.assert_close(output, stored[f"{name}.output"], rtol=1e-4, atol=1e-5)


def test_there_is_one() -> None:
    assert "0.1.0" in {path.name for path in VERSIONS}


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_encoder(version: Path) -> None:
    encoder = SLiMEncoder.from_pretrained(version / "encoder")
    assert (encoder.topology.name, encoder.channel_names) == ("coco-17", "xyc")
    check(encoder, version, "encoder")


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_classifier(version: Path) -> None:
    classifier = SLiMClassifier.from_pretrained(version / "classifier")
    assert classifier.class_names == ("wave", "clap", "jump")
    check(classifier, version, "classifier")


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_unfinished_run(version: Path) -> None:
    with pytest.warns(UserWarning, match="is not finished: this is its teacher after step 2 of 4"):
        encoder = SLiMEncoder.from_pretrained(version / "run")
    assert encoder.topology.name == "utd-mhad-20"
    check(encoder, version, "run")


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_the_run_is_resumed(version: Path, tmp_path: Path) -> None:
    shutil.copytree(version / "run", tmp_path / "run")
    pretrain(tmp_path)
    records = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in records][-1] == 4
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 4


@pytest.mark.filterwarnings("ignore:.*attention heads")
@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
@pytest.mark.parametrize("name", ["public", "public.pth"])
def test_public_format(version: Path, name: str) -> None:
    encoder = SLiMEncoder.from_pretrained(version / name)
    assert (encoder.topology.name, encoder.channel_names) == ("ntu-25", "xyz")
    check(encoder, version, "public")
