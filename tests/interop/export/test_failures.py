"""Exports that cannot succeed write nothing and say why."""

import sys

import pytest
import torch

from slim_fast import SLiMEncoder, UserError
from slim_fast.export import main
from slim_fast.interop.export import (
    export_onnx,
    export_torch,
    program,
    torch_program,
)
from slim_fast.model.encoder import EncoderConfig


def test_a_wrong_program_is_not_kept(monkeypatch, tmp_path):
    model = SLiMEncoder(2, config=EncoderConfig(width=4, depth=1, heads=2))
    load = torch_program._torch_program
    monkeypatch.setattr(
        torch_program, "_torch_program", lambda content: lambda x: [2 * v for v in load(content)(x)]
    )
    path = tmp_path / "encoder.pt2"
    path.write_text("before")
    with pytest.raises(UserError, match="cls is off by"):
        export_torch(model, path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError("disk full")])
def test_an_interrupted_write_leaves_what_was_there(make_encoder, tmp_path, monkeypatch, stop):
    path = tmp_path / "encoder.pt2"
    path.write_text("before")

    def fail(*_, **__):
        assert len(list(tmp_path.iterdir())) == 2, "the new file is begun"
        raise stop

    monkeypatch.setattr(program, "check", fail)
    with pytest.raises(KeyboardInterrupt if stop is KeyboardInterrupt else UserError):
        export_torch(make_encoder(), path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["before"]


def test_ctrl_c(encoder, tmp_path, monkeypatch, capsys):
    encoder.save_pretrained(tmp_path / "encoder")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.export, "export", interrupt)
    assert main([str(tmp_path), "--to", "torch-export"]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["encoder"]


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_packages_are_named(make_encoder, monkeypatch, tmp_path, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf'needs {name}: pip install "slim_fast\[onnx\]"'):
        export_onnx(make_encoder(), tmp_path / "encoder.onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_said_before_any_work(make_encoder, monkeypatch, tmp_path):
    def work(*_, **__):
        raise AssertionError("traced")

    monkeypatch.setattr(torch.export, "export", work)
    monkeypatch.setattr(torch.onnx, "export", work)
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "encoder.onnx"):
        for export in (export_onnx, export_torch):
            with pytest.raises(UserError, match=r"Could not write .*choose another path"):
                export(make_encoder(), path)
    with pytest.raises(UserError, match="opset 16 is too old: choose 17"):
        export_onnx(make_encoder(), tmp_path / "encoder.onnx", opset=16)
    with pytest.raises(UserError, match=r"Export the encoder that optimize\(\) was called on"):
        export_torch(make_encoder().optimize(torch.float32), tmp_path / "encoder.pt2")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_opset_that_torch_does_not_know(tmp_path):
    model = SLiMEncoder(2, config=EncoderConfig(width=4, depth=1, heads=2))
    with pytest.raises(UserError, match=r"can't write ONNX opset 99"):
        export_onnx(model, tmp_path / "encoder.onnx", opset=99)
    assert not list(tmp_path.iterdir())


def test_bad_arguments_of_the_command_line(tmp_path, capsys):
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    (tmp_path / "empty").mkdir()
    for arguments, says in (
        ([str(tmp_path / "broken.pth"), "--to", "onnx"], "cannot be read"),
        ([str(tmp_path / "empty"), "--to", "onnx"], "no encoder folder"),
        (["no such/run/at/all", "--to", "onnx"], "There is no folder or file"),
        ([str(tmp_path), "--to", "torch-export", "--opset", "20"], "--opset is for --to onnx"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert says in error
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["broken.pth", "empty"]
