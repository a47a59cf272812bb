"""Files have their owner's umask, whoever writes them."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from slim_fast import SLiMEncoder
from slim_fast.data import CacheWriter
from slim_fast.data.clips import Clip
from slim_fast.drawing import style
from slim_fast.drawing.film import draw_film
from slim_fast.model.encoder import EncoderConfig
from slim_fast.skeletons import get_topology
from slim_fast.training.checkpoint import Checkpoints
from slim_fast.training.monitor import drop_records_after
from slim_fast.writing import encode_text, replace_atomically

COCO = get_topology("coco-17")


@pytest.fixture(params=[0o022, 0o002, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def encoder(folder: Path) -> None:
    SLiMEncoder("coco-17", "xy", EncoderConfig(width=16, depth=1, heads=2)).save_pretrained(folder)


def checkpoint(folder: Path) -> None:
    Checkpoints(folder, keep=1).save(1, {"step": 1})


def metrics(folder: Path) -> None:
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    drop_records_after(folder / "metrics.jsonl", 1)


def cache(folder: Path) -> None:
    with CacheWriter(folder / "cache", COCO, "xy") as writer:
        writer.add(Clip(np.random.rand(9, 17, 2, 1).astype(np.float32), "a"))


def pictures(folder: Path) -> None:
    style.save(style.new_figure(2, 2), folder / "a.png")
    draw_film(
        np.random.rand(4, 17, 2, 1), np.full((4, 2), 0.5), ("a", "b"), COCO, folder / "a.gif", "xy"
    )


@pytest.mark.parametrize("write", [encoder, checkpoint, metrics, cache, pictures])
def test_permissions(tmp_path: Path, umask: int, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in files} == {
        path.name: 0o666 & ~umask for path in files
    }


def test_a_private_file_of_a_writers_own_gets_the_users_permissions(tmp_path: Path) -> None:
    with replace_atomically(tmp_path / "a.bin") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    (tmp_path / "like").touch()
    assert (tmp_path / "a.bin").stat().st_mode == (tmp_path / "like").stat().st_mode
    assert sorted(os.listdir(tmp_path)) == ["a.bin", "like"]


def test_text_with_names_in_another_encoding() -> None:
    name = os.fsdecode(b"caf\xe9 \xc3\xa9")
    assert encode_text(name) == b"caf\\udce9 \xc3\xa9"
