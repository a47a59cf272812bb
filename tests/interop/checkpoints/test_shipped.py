"""Encoders that come with the package load by name, and no network is asked for them."""

from pathlib import Path

import pytest
import torch

from slim_fast import SLiMEncoder
from slim_fast.errors import UserError
from slim_fast.interop.checkpoints import read, shipped


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("asked the network")

    monkeypatch.setattr(read, "download", refuse)


@pytest.mark.parametrize("name", shipped.find_shipped())
def test_every_one_loads_with_its_skeleton_and_card(name):
    encoder = SLiMEncoder.from_pretrained(name)
    assert encoder.topology.name == "ntu-25"
    with torch.no_grad():
        features = encoder(torch.randn(1, 3, encoder.config.window, 25, 2))
    assert torch.isfinite(features).all()
    folder = shipped.find_shipped()[name]
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("---")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4e6


def test_there_is_one():
    assert "slim_fast/synthetic-small" in shipped.find_shipped()


def test_other_names_of_ours_are_refused_with_a_suggestion():
    with pytest.raises(UserError, match=r"comes with slim_fast.*slim_fast/synthetic-small"):
        SLiMEncoder.from_pretrained("slim_fast/synthetic-smal")


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("slim_fast/mine").mkdir(parents=True)
    SLiMEncoder("ntu-25").save_pretrained("slim_fast/mine")
    assert SLiMEncoder.from_pretrained("slim_fast/mine").config.width == 256
