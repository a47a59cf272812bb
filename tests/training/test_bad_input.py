"""What a user can get wrong ends with exit status 2 and one sentence that names the thing."""

import copy
import re
import subprocess
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from slim_fast import pretrain
from slim_fast.data.clips import Clip
from slim_fast.errors import UserError
from slim_fast.training.config import PretrainConfig
from slim_fast.views.pipeline import LocalViewConfig

Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"preset": "nosuch"}, ["nosuch", "demo", "ntu60-xsub"]),
        ({"stepz": 3}, ["--stepz"]),
        ({"optim.momentum": 0.9}, ["optim.momentum"]),
        ({"steps": "many"}, ["steps", "many"]),
        ({"steps": 2.5}, ["steps", "2.5"]),
        ({"batch": "[1,2]"}, ["batch"]),
        ({"precision": "fp64"}, ["precision", "fp64"]),
        ({"optim.weight_decay": 0.1}, ["optim.weight_decay"]),
        ({"views.local": "[{frames: 9}]"}, ["views.local", "frames"]),
        ({"views.mask.kind": "cube"}, ["views.mask.kind", "cube", "tube"]),
        ({"config": "/no/such.yaml"}, ["/no/such.yaml"]),
    ],
)
def test_unknown_and_malformed_fields(
    changes: dict[str, Any], named: list[str], refused: Refused
) -> None:
    sentence = refused(**changes)
    assert all(name in sentence for name in named), sentence


@pytest.fixture(scope="module")
def config() -> PretrainConfig:
    return pretrain.parse(["--device=cpu"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", -5),
        ("batch", 0),
        ("seed", 2**80),
        ("threads", 0),
        ("threads", -1),
        ("device", "tpu"),
        ("device", "meta"),
        ("device", "cuda:99"),
        ("views.window", 12),
        ("views.window", 0),
        ("views.interval", (0.9, 0.5)),
        ("views.interval", (0.5, 1.5)),
        ("views.local", [LocalViewConfig(window=9)]),
        ("views.local", [LocalViewConfig(count=0)]),
        ("views.local", [LocalViewConfig(interval=(-0.5, 0.5))]),
        ("views.local", [LocalViewConfig(), LocalViewConfig(interval=(0.7, 0.3))]),
        ("views.mask.ratio", (0.5, 1.1)),
        ("views.mask.global_share", -0.1),
        ("views.mask.motion_temperature", 0),
        ("model.encoder.depth", 0),
        ("model.encoder.registers", -1),
        ("model.encoder.ffn_ratio", 0),
        ("model.encoder.patch_frames", 4),
        ("model.head.hidden", 0),
        ("model.head.bottleneck", -2),
        ("model.head.prototypes", 1),
        ("model.loss.koleo", -0.1),
        ("optim.learning_rate", 0),
        ("optim.learning_rate", float("nan")),
        ("optim.final_learning_rate", float("inf")),
        ("optim.betas", (0.9, 1.0)),
        ("optim.warmup", 5000),
        ("optim.clip", 0),
        ("optim.teacher_momentum", (0.9, 1.1)),
        ("optim.teacher_temperature", (0.0, 0.07)),
        ("log.metrics_every", 0),
        ("log.knn_every", -1),
        ("log.knn_clips", 0),
        ("log.checkpoint_every", -1),
        ("log.keep", 0),
    ],
)
def test_values_that_cannot_work(
    name: str, value: Any, config: PretrainConfig, tmp_path: Path
) -> None:
    changed = copy.deepcopy(config)
    changed.out = str(tmp_path / "run")
    *way, last = name.split(".")
    setattr(reduce(getattr, way, changed), last, value)
    with pytest.raises(
        UserError, match="views" if name.startswith("views") else re.escape(name)
    ) as raised:
        pretrain.pretrain(changed)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_the_view_whose_interval_is_wrong_is_numbered(config: PretrainConfig) -> None:
    config.views.local = [LocalViewConfig(), LocalViewConfig(interval=(0.7, 0.3))]
    with pytest.raises(UserError, match=r"views\.local\[1\]\.interval=\(0\.7, 0\.3\)"):
        pretrain.pretrain(config)
    words = ["--views.local", '[{"interval": [0.7, 0.3]}]']
    with pytest.raises(UserError, match=r"views\.local\[0\]\.interval"):
        pretrain.parse(words)


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"batch": -1},
        {"device": "tpu"},
        {"views.window": 12},
        {"views.local": [{"count": 0}]},
        {"encoder.width": 0},
        {"encoder.heads": 3},
        {"optim.learning_rate": "nan"},
        {"model.loss.contrastive": 0, "model.loss.masked": 0},
    ],
)
def test_such_values_on_the_command_line(
    changes: dict[str, Any], refused: Refused, tmp_path: Path
) -> None:
    fields = {name.replace("encoder", "model.encoder"): value for name, value in changes.items()}
    assert next(iter(changes)).rpartition(".")[0] in refused(**fields)
    assert not (tmp_path / "run").exists()


def test_data_that_is_no_cache(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.npz").write_bytes(b"PK nonsense")
    for path in (
        tmp_path / "missing",
        tmp_path / "folder",
        tmp_path / "file.npz",
        tmp_path / "file.npz" / "below",
    ):
        sentence = refused(data=path)
        assert str(path) in sentence
        assert "slim_fast.data convert" in sentence


@pytest.mark.parametrize(
    "preset", ["small", "ntu60-xsub", "ntu120-xset", "pku-mmd-2", "ablation-mfm"]
)
def test_presets_for_real_data_ask_for_it(preset: str, refused: Refused, tmp_path: Path) -> None:
    sentence = refused(preset=preset, data=None)
    assert "--data" in sentence
    assert "slim_fast.data convert" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("file", ["positions.npy", "clips.npz", "meta.json"])
@pytest.mark.parametrize("damage", ["cut", "missing", "garbage"])
def test_damaged_cache(
    file: str, damage: str, refused: Refused, write_cache: Callable[..., Path], clips: list[Clip]
) -> None:
    path = write_cache(clips)
    content = (path / file).read_bytes()
    (path / file).unlink()
    if damage != "missing":
        (path / file).write_bytes(
            content[: len(content) // 2] if damage == "cut" else b"\x93garbage" * 20
        )
    sentence = refused(data=path)
    assert str(path) in sentence
    assert "convert" in sentence


def test_unknown_split(refused: Refused) -> None:
    sentence = refused(split="xsub")
    assert "xsub" in sentence
    assert "standard" in sentence  # the one there is


@pytest.mark.parametrize("file", ["meta.json", "positions.npy", "clips.npz"])
def test_data_that_must_not_be_read(
    file: str, refused: Refused, must_not_be_read: Callable[[str], None]
) -> None:
    must_not_be_read(file)
    sentence = refused()
    assert f"{file}: Permission denied" in sentence
    assert "damaged" not in sentence
    assert "convert" not in sentence


def test_a_process_says_the_same(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "slim_fast.pretrain",
        "--data",
        "/no/such/cache",
        "--out",
        str(tmp_path / "run"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: /no/such/cache is not a clip cache")
    assert len(ended.stderr.splitlines()) == 1


def test_ctrl_c_before_the_first_step(
    arguments: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def pressed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("slim_fast.training.run.open_data", pressed)
    assert pretrain.main(arguments()) == 130
    said = capsys.readouterr().err
    assert (
        said == "Stopped by SIGINT. The same command resumes from the last checkpoint, if one was "
        "written.\n"
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("steps: null", "steps"),
        ("optim: null", "optim"),
        ("model: {encoder: null}", "model.encoder"),
        ("views: {mask: {ratio: null}}", "views.mask.ratio"),
        ("views: {local: [{interval: null}]}", "views.local[0].interval"),
    ],
)
def test_nulls_where_a_value_is_needed(text: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"^{re.escape(name)} is null: give"):
        pretrain.parse(["--config", str(path)])
    path.write_text("threads: null\nlog: {tracker: null}")
    assert pretrain.parse(["--config", str(path)]).threads is None
