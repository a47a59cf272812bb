"""What reads files, and a good file of each kind to begin with."""

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from slim_fast import SLiMEncoder, pretrain
from slim_fast.data import ClipCache
from slim_fast.data.convert import convert
from slim_fast.data.readers import Options
from slim_fast.errors import UserError
from slim_fast.evaluation.grid.files import load_grid
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.torch_files import read_tensors
from slim_fast.skeletons import Topology, get_topology
from slim_fast.training.checkpoint import Checkpoints
from slim_fast.training.config import PretrainConfig
from slim_fast.training.folder import begin_run
from slim_fast.training.monitor import read_metrics
from slim_fast.training.teacher import load_unfinished_teacher
from slim_fast.views.store import FrameStore
from tests.data.test_fuzz_folders import FORMS


@dataclass(frozen=True)
class Target:
    """write(folder) writes good files into an empty folder; read(folder) reads them, and raises
    nothing but UserError whatever they hold.
    """

    write: Callable[[Path], object]
    read: Callable[[Path], object]
    share: float = 1.0
    """Of as many inputs as other targets are given."""


def _clip(joints: int = 25, channels: int = 3) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.uniform(0.1, 2, (3, joints, channels, 1)).astype("f4")


def _convert(name: str, file: str = "in") -> Callable[[Path], None]:
    """Converts, and leaves either no cache or a whole one."""

    def read(folder: Path) -> None:
        source = folder if file == "in" else folder / file
        out = folder.with_name("out")
        try:
            convert(source, out, Options(get_topology(name)), overwrite=True)
        except UserError:
            if out.exists():
                ClipCache.open(out)
            raise
        _use_cache(out)

    return read


def _use_cache(folder: Path) -> None:
    cache = ClipCache.open(folder)
    for number in range(min(3, len(cache))):
        cache.clip(number)
    if len(cache):
        FrameStore(cache)


def _write_cache(folder: Path) -> None:
    source = folder.with_name("source.npz")
    np.savez(source, clips=np.stack([_clip()[..., 0]] * 4), labels=np.arange(4))
    convert(source, folder, Options(get_topology("ntu-25")), overwrite=True)


def _arrays(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.savez(folder / "ntu.npz", **arrays)


def _write_agcn(folder: Path) -> None:
    np.save(folder / "train_data.npy", np.stack([_clip()] * 2).transpose(0, 3, 1, 2, 4))
    (folder / "train_label.pkl").write_bytes(pickle.dumps((["a", "b"], [0, 1])))


def _write_pyskl(folder: Path) -> None:
    keypoint = np.stack([_clip(17, 2)[..., 0]])
    one = {"frame_dir": "a", "keypoint": keypoint, "total_frames": 3, "label": 1}
    content = {"split": {"train": ["a"], "val": []}, "annotations": [one]}
    (folder / "coco.pkl").write_bytes(pickle.dumps(content, protocol=2))


def _write_ntu(folder: Path) -> None:
    clip = _clip()[..., 0]
    lines = [str(len(clip))]
    for frame in clip:
        lines += ["1", "72057594037944738 0 0 0 0 0 0 0 0 2", "25"]
        lines += [" ".join(f"{x:.4f}" for x in (*joint, *[0.0] * 9)) for joint in frame]
    (folder / "S001C001P001R001A001.skeleton").write_text("\n".join(lines))


def _small_encoder() -> SLiMEncoder:
    return SLiMEncoder(topology="ntu-25", config=EncoderConfig(width=8, depth=1, heads=1))


def _write_encoder(folder: Path) -> None:
    _small_encoder().save_pretrained(folder)


def _write_pth(folder: Path) -> None:
    encoder = _small_encoder().state_dict()
    state = {f"backbone.{name.split('encoder.')[-1]}": value for name, value in encoder.items()}
    torch.save({"teacher": state}, folder / "weights.pth")


def _write_grid(folder: Path) -> None:
    name = "classifiers_dict.classifier_1_blocks_avgpool_False_lr_0_00250.linear"
    state = {f"{name}.weight": torch.zeros(2, 8), f"{name}.bias": torch.zeros(2)}
    torch.save({"model": state, "iteration": 3}, folder / "grid.pth")


def _write_checkpoint(folder: Path) -> None:
    weights = {f"teacher.encoder.{k}": torch.zeros(2) for k in ("a", "b")}
    described = {
        "config": {"width": 8, "depth": 1, "heads": 1},
        "topology": get_topology("ntu-25").to_dict(),
        "channels": "xyz",
        "more": {},
        "name": "teacher.encoder",
    }
    state = {
        "model": weights,
        "optimizer": {"state": {}, "param_groups": []},
        "clips": "0",
        "conditions": {"steps": 3},
        "encoder": described,
    }
    checkpoints = Checkpoints(folder / "checkpoints", keep=2)
    for step in (1, 2):
        checkpoints.save(step, {**state, "step": step, "seconds": 0.5})


def _read_checkpoint(folder: Path) -> None:
    load_unfinished_teacher(folder)


def _write_run(folder: Path) -> None:
    text = json.dumps(PretrainConfig(out="x").to_json(), indent=1)
    (folder / "config.json").write_text(text)
    (folder / "summary.json").write_text(
        json.dumps({"steps": PretrainConfig().steps, "knn_top1": 0.5})
    )
    records = [{"step": n, "loss": 1.0 / n} for n in range(1, 5)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


def _read_run(folder: Path) -> None:
    read_metrics(folder / "metrics.jsonl")
    begin_run(folder, PretrainConfig(out="x"))


def _write_yaml(folder: Path) -> None:
    text = "steps: 5\nbatch: 4\nviews:\n  window: 32\n  interval: [0.5, 1.0]\nlog: {keep: 2}\n"
    (folder / "run.yaml").write_text(text)


def _write_topology(folder: Path) -> None:
    (folder / "arm.json").write_text(json.dumps(get_topology("kinect-v1-20").to_dict()))


def _form(form: str) -> Target:
    write, name, channels = FORMS[form]
    joints = get_topology(name).num_joints
    clips = [_clip(joints, channels)] * 2
    return Target(lambda folder: write(folder, clips), _convert(name))


_NPZ = _convert("ntu-25", "ntu.npz")
_X = np.stack([_clip()[..., 0]] * 2)
TARGETS: dict[str, Target] = {
    **{form: _form(form) for form in FORMS},
    "ntu": Target(_write_ntu, _convert("ntu-25")),
    "npz of clips": Target(
        _arrays(clips=_X, labels=np.arange(2), names=np.array(["a", "b"])), _NPZ
    ),
    "npz of frames": Target(
        _arrays(x=_X.reshape(6, 25, 3, 1), start=np.array([0, 3]), length=np.array([3, 3])), _NPZ
    ),
    "npz of train and test": Target(
        _arrays(x_train=_X.reshape(2, 3, 75), y_train=np.array(["a", "b"])), _NPZ
    ),
    "npy and pickle": Target(_write_agcn, _convert("ntu-25", "train_data.npy")),
    "pyskl": Target(_write_pyskl, _convert("coco-17", "coco.pkl")),
    "cache": Target(_write_cache, _use_cache),
    "encoder": Target(_write_encoder, SLiMEncoder.from_pretrained),
    "weights": Target(_write_pth, lambda folder: read_tensors(folder / "weights.pth")),
    "grid": Target(_write_grid, lambda folder: load_grid(folder / "grid.pth", 8, 1)),
    "checkpoint": Target(_write_checkpoint, _read_checkpoint),
    "run": Target(_write_run, _read_run),
    "configuration": Target(
        _write_yaml, lambda folder: pretrain.parse(["--config", str(folder / "run.yaml")]), 0.05
    ),
    "topology": Target(_write_topology, lambda folder: Topology.from_json(folder / "arm.json")),
}
