"""What other trainers save beside tensors is passed over, never made or called."""

import argparse
import contextlib
import functools
import io
import operator
import os
import pathlib
import pickle
import subprocess
import sys
import tarfile
import types
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from slim_fast import SLiMEncoder, UserError
from slim_fast.model.torch_files import Inert, read_tensors
from tests.interop.checkpoints.conftest import PUBLIC
from tests.interop.checkpoints.stand_ins import Config, HistoryBuffer, Level, beside

pytestmark = pytest.mark.filterwarnings("ignore:.*attention heads")


@pytest.fixture
def elsewhere(monkeypatch):
    """The same classes, of a module that can't be imported any more once this is called."""
    module = types.ModuleType("mmengine_logging")
    monkeypatch.setitem(sys.modules, "mmengine_logging", module)
    for kind in (HistoryBuffer, Level, Config):
        monkeypatch.setattr(kind, "__module__", "mmengine_logging")
        setattr(module, kind.__name__, kind)
    return lambda: monkeypatch.delitem(sys.modules, "mmengine_logging")


def saved(path, content, zipped, protocol=2):
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("ddp", [False, True])
def test_what_lies_beside_the_tensors_is_passed_over(
    make_encoder, tmp_path, elsewhere, zipped, protocol, ddp
):
    encoder = make_encoder(config=PUBLIC)
    weights = OrderedDict((f"module.{k}" if ddp else k, v) for k, v in encoder.state_dict().items())
    path = saved(tmp_path / "a.pth", {**beside(), "model": weights}, zipped, protocol)
    elsewhere()
    back = SLiMEncoder.from_pretrained(path)
    assert all(
        torch.equal(tensor, encoder.state_dict()[name])
        for name, tensor in back.state_dict().items()
    )
    content = read_tensors(path)
    assert type(content["args"]) is type(content["epoch"]) is type(content["meta"]["time"]) is Inert
    assert type(content["message_hub"]["log_scalars"]["loss"]) is Inert
    assert not vars(content["args"])
    assert torch.equal(content["optimizer"]["state"][0]["exp_avg"], torch.zeros(2))


class Calls:
    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def attacks(path: str) -> dict[str, Any]:
    code = f"__import__('os').mkdir({path!r})"
    return {
        "os.system": Calls(os.system, f"mkdir {path}"),
        "os.mkdir": Calls(os.mkdir, path),
        "eval": Calls(eval, code),
        "exec": Calls(exec, code),
        "__import__": Calls(__import__, "antigravity"),
        "subprocess": Calls(subprocess.check_call, ["mkdir", path]),
        "getattr": Calls(getattr, Calls(__import__, "os"), "mkdir"),
        "pathlib": Calls(pathlib.Path.mkdir, pathlib.PurePosixPath(path)),
        "pickle": Calls(pickle.loads, pickle.dumps(Calls(os.mkdir, path))),
        "map": Calls(list, Calls(map, os.mkdir, [path])),
        "partial": Calls(functools.partial(os.mkdir, path)),
        "attrgetter": Calls(operator.methodcaller("mkdir"), pathlib.PurePosixPath(path)),
        "torch.load": Calls(torch.load, path),
        "torch.hub": Calls(torch.hub.load, path, "x"),
        "timeit": Calls(__import__("timeit").timeit, code),
        "numpy": Calls(np.load, path, None, True),
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", list(attacks("")))
@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_is_called(make_encoder, tmp_path, zipped, name, protocol):
    """It is refused, or nothing comes of it."""
    canary = tmp_path / "ran"
    encoder = make_encoder(config=PUBLIC)
    content = {
        "args": argparse.Namespace(a=attacks(str(canary))[name]),
        "model": encoder.state_dict(),
    }
    path = saved(tmp_path / "evil.pth", content, zipped, protocol)
    with contextlib.suppress(UserError):
        assert torch.equal(SLiMEncoder.from_pretrained(path).pos_embed, encoder.pos_embed)
    assert not canary.exists()
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "name", ["os.system", "os.mkdir", "eval", "exec", "__import__", "subprocess"]
)
def test_what_is_there_to_run_code_is_refused(tmp_path, zipped, name):
    path = saved(tmp_path / "evil.pth", {"model": attacks(str(tmp_path / "ran"))[name]}, zipped)
    with pytest.raises(
        UserError, match=r"evil\.pth holds more than tensors, [\w.]+, and would run code"
    ):
        SLiMEncoder.from_pretrained(path)
    assert not (tmp_path / "ran").exists()


def test_archives_of_other_kinds_are_not_opened(tmp_path):
    scripted = torch.jit.script(nn.Linear(2, 2))
    torch.jit.save(scripted, tmp_path / "a.pth")
    with tarfile.open(tmp_path / "b.pth", "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            content = pickle.dumps(Calls(os.mkdir, str(tmp_path / "ran")), 2)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(UserError, match="cannot be read: it is damaged, or nothing that"):
            SLiMEncoder.from_pretrained(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_a_zip_of_a_version_that_does_not_exist(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.zeros(2)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 6] = 96  # needed to extract, in the directory
    content[content.index(b"PK\1\2") + 8] |= 1  # encrypted
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged, or nothing that torch.save wrote"):
        read_tensors(path)
