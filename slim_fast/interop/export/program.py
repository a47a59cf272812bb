"""What the formats of exported programs share: how a model is traced, checked and written."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.export import Dim
from torch.fx.experimental import _config as shapes

from slim_fast import __version__
from slim_fast.errors import UserError
from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.interop.export.module import ExportModule
from slim_fast.interop.export.verify import Run, check
from slim_fast.interop.tracing import quiet
from slim_fast.model.frozen import copied
from slim_fast.writing import write_atomically

Report = Callable[[str], None]


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written."""

    path: Path
    axes: Mapping[str, tuple[str | int, ...]]
    """Of the input x and of each output, in order."""
    errors: Mapping[str, float]
    """Output -> its largest error, relative to its largest value; empty when it was not checked."""


def describe_export(model: SLiMEncoder) -> dict[str, str]:
    """Metadata: slim_fast_version, topology (JSON), channels, patch_frames, classes (JSON), and
    window, the frames that whole clips are resampled to.
    """
    topology = model.topology if isinstance(model.topology, int) else model.topology.to_dict()
    fields = {
        "slim_fast_version": __version__,
        "topology": json.dumps(topology),
        "channels": model.channel_names,
        "patch_frames": str(model.config.patch_frames),
        "window": str(model.config.window),
    }
    if isinstance(model, SLiMClassifier):
        fields["num_classes"] = str(model.num_classes)
        if model.class_names is not None:
            fields["class_names"] = json.dumps(model.class_names)
    return fields


def write_program(
    model: SLiMEncoder,
    path: Path,
    make: Callable[[ExportModule], bytes],
    load: Callable[[bytes], Run],
    verify: bool,
    report: Report,
) -> ExportedFile:
    """Write what `make` traces, once `load` of it gives the model's outputs (with `verify`)."""
    ExportModule(model)  # raises for a model that cannot be exported before it is copied
    plain = ExportModule(copied(model).to("cpu", torch.float32)).eval().requires_grad_(False)
    errors: dict[str, float] = {}

    def write(file: BinaryIO) -> None:
        report("Tracing the model ...")
        # Without this, sizes of one patch, clip or person would be specialised programs.
        with quiet(), shapes.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]  # made at run time
            content = make(plain)
        if verify:
            report("Comparing its outputs with the model's ...")
            with quiet():
                errors.update(check(plain.encoder, load(content)))
        file.write(content)

    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, write)
    except OSError as error:
        raise UserError(
            f"Could not write {path}: {error.strerror or error}; choose another path."
        ) from error
    x = ("B", model.channels, f"{model.config.patch_frames}*t", model.joints, "M")
    return ExportedFile(path, {"x": x, **plain.axes}, errors)


def example_clips(model: SLiMEncoder) -> Tensor:
    """Clips to trace with, all sizes different."""
    return torch.zeros(2, model.channels, 4 * model.config.patch_frames, model.joints, 3)


def dynamic_axes(model: SLiMEncoder) -> tuple[dict[int, Any]]:
    """The dynamic axes of x, B, T and M, as torch.export takes them."""
    return (
        {0: Dim("B", min=1), 2: model.config.patch_frames * Dim("t", min=1), 4: Dim("M", min=1)},
    )
