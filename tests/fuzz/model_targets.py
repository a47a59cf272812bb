"""Readers of weights, and of what lies beside them."""

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from slim_fast import SLiMClassifier, SLiMEncoder
from slim_fast.data import ClipCache
from slim_fast.evaluation.feature_files import FeatureFiles
from slim_fast.evaluation.grid.files import load_grid
from slim_fast.interop.checkpoints.checksums import verify_folder, write_manifest
from slim_fast.interop.checkpoints.describe import describe_weights
from slim_fast.interop.web.runtime import MODULE, WASM, read_runtime
from slim_fast.model.torch_files import read_tensors
from tests.fuzz.target import Target, small_encoder, write_cache

PROBE = "classifiers_dict.classifier_1_blocks_avgpool_False_lr_0_00250.linear"


def _touch(content: Any) -> None:
    """Use every number of the tensors, of which one outside its file's would end the process."""
    if isinstance(content, torch.Tensor):
        content.clone()
    elif isinstance(content, dict | list | tuple):
        for value in content.values() if isinstance(content, dict) else content:
            _touch(value)


def _write_encoder(folder: Path) -> None:
    small_encoder().save_pretrained(folder)
    result = {"dataset": {"name": "NTU"}, "metrics": [{"name": "top-1", "value": 0.5}]}
    card = {"license": "mit", "model-index": [{"results": [result]}]}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\ntext")


def _read_encoder(folder: Path) -> None:
    _touch(SLiMEncoder.from_pretrained(folder).state_dict())
    describe_weights(folder)


def _weights(**options: Any) -> Target:
    """Of another trainer, in torch.save's format of today or of before 1.6."""

    def write(folder: Path) -> None:
        encoder = small_encoder().state_dict()
        state = {f"backbone.{name.split('encoder.')[-1]}": value for name, value in encoder.items()}
        torch.save({"teacher": state}, folder / "weights.pth", **options)

    def read(folder: Path) -> None:
        _touch(read_tensors(folder / "weights.pth"))
        SLiMEncoder.from_pretrained(folder / "weights.pth")

    return Target(write, read)


def _write_grid(folder: Path) -> None:
    state = {f"{PROBE}.weight": torch.zeros(2, 8), f"{PROBE}.bias": torch.zeros(2)}
    torch.save({"model": state, "iteration": 3}, folder / "grid.pth")


def _write_probe(folder: Path) -> None:
    small_encoder().save_pretrained(folder / "encoder")
    (folder / "linear").mkdir()
    _write_grid(folder / "linear")
    (folder / "linear" / "grid.json").write_text('{"classes": ["wave", "clap"]}')


def _read_probe(folder: Path) -> None:
    SLiMClassifier.from_pretrained(folder / "encoder", probe="best")


def _write_features(folder: Path) -> None:
    write_cache(folder / "cache")
    _read_features(folder)


def _read_features(folder: Path) -> None:
    files = FeatureFiles(folder / "features", ClipCache.open(folder / "cache"))
    files.load(small_encoder(), np.arange(3), 1, "learned")


def _write_sums(folder: Path) -> None:
    (folder / "weights.pth").write_bytes(b"abc")
    write_manifest(folder)


def _write_package(folder: Path) -> None:
    with tarfile.open(folder / "ort.tgz", "w:gz") as archive:
        for name in (MODULE, WASM):
            path = folder / Path(name).name
            path.write_bytes(b"abc" * 1000)
            archive.add(path, f"package/{name}")
            path.unlink()


TARGETS: dict[str, Target] = {
    "encoder": Target(_write_encoder, _read_encoder),
    "weights": _weights(),
    "weights of torch 1.5": _weights(_use_new_zipfile_serialization=False),
    "grid": Target(_write_grid, lambda folder: load_grid(folder / "grid.pth", 8, 1)),
    "probe": Target(_write_probe, _read_probe),
    "features": Target(_write_features, _read_features),
    "checksums": Target(_write_sums, verify_folder),
    "onnxruntime-web": Target(_write_package, lambda folder: read_runtime(folder / "ort.tgz")),
}
