"""The examples that need nothing but what is made here, run as scripts."""

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slim_fast.data.synthetic import write_synthetic

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def run(monkeypatch) -> Callable[..., None]:
    def script(name: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return script


def test_features(run, make_encoder, tmp_path, capsys):
    make_encoder("coco-17", "xyc").save_pretrained(tmp_path / "run" / "encoder")
    run("features.py", tmp_path / "run")
    assert "patches (8, 136, 16), " in (printed := capsys.readouterr().out)
    assert "clips (8, 16), " in printed


def test_fine_tuning(run, make_encoder, tmp_path, capsys):
    make_encoder("ntu-25").save_pretrained(tmp_path / "encoder")
    write_synthetic(
        tmp_path / "cache", subjects=6, repetitions=2, actions=("wave", "jump"), progress=False
    )
    run("finetune.py", tmp_path / "encoder", tmp_path / "cache")
    out, bar = capsys.readouterr()
    trained, untrained = map(
        float, re.fullmatch(r"8 test .* (\S+) % right, (\S+) % with the .* head\n", out).groups()
    )
    assert trained > max(untrained, 60)
    assert "fine-tuning: 100%" in bar


def test_lora(run, make_encoder, tmp_path, capsys):
    pytest.importorskip("peft", reason="peft is not installed")
    make_encoder("ntu-25").save_pretrained(tmp_path / "encoder")
    write_synthetic(
        tmp_path / "cache", subjects=6, repetitions=2, actions=("wave", "jump"), progress=False
    )
    run("peft_lora.py", tmp_path / "encoder", tmp_path / "cache")
    said = (
        r"8 test .* (\S+) % right, (\S+) % with the .* head; (\S+)% of the weights were trained\n"
    )
    trained, untrained, share = map(float, re.fullmatch(said, capsys.readouterr().out).groups())
    assert trained > max(untrained, 60)
    assert 5 < share < 60


@pytest.mark.parametrize("name", ["features.py", "finetune.py"])
def test_a_wrong_name_is_one_sentence(run, tmp_path, capsys, name):
    write_synthetic(
        tmp_path / "cache",
        subjects=2,
        repetitions=1,
        test_fraction=0.5,
        actions=["wave"],
        progress=False,
    )
    with pytest.raises(SystemExit) as stop:
        run(name, tmp_path, *([tmp_path / "cache"] if name == "finetune.py" else []))
    assert stop.value.code == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"error: {re.escape(str(tmp_path))} is no encoder folder: .*\.\n", error)
