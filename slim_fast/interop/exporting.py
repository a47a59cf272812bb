"""Encoders and classifiers as single files that run without slim_fast: ONNX, and torch.export's .pt2."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.export import Dim
from torch.fx.experimental import _config as shapes

from slim_fast.errors import UserError
from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.interop.dense import Dense
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.training.checkpoint import write_atomically

Run = Callable[[Tensor], Sequence[Tensor]]
"""Clips (B, C, T, V, M) to the outputs of `Dense`, in their order."""
Report = Callable[[str], None]
TOLERANCE = 1e-4
"""Largest error of an output, relative to its largest value."""
OLDEST_OPSET, OPSET = 18, 20
EXTRA = "slim_fast.json"
"""The extra file of a .pt2 that holds its metadata."""
# (B, T / patch_frames, M): 1 is where traced programs like to break.
_CHECKED = ((1, 1, 1), (2, 1, 3), (3, 8, 2), (1, 15, 2), (2, 4, 1))


@dataclass(frozen=True)
class Exported:
    """A file that was written."""

    path: Path
    axes: Mapping[str, tuple[str | int, ...]]
    """Of the input x and of each output, in order."""
    errors: Mapping[str, float]
    """Output -> its largest error, relative to its largest value; empty when it was not checked."""


def export_onnx(
    model: SLiMEncoder,
    path: str | Path,
    *,
    opset: int = OPSET,
    verify: bool = True,
    report: Report = lambda _: None,
) -> Exported:
    """Write `model` to an ONNX file, its weights (float32) and `describe_export`'s fields in it.

    x is float32 (B, C, T, V, M), T a multiple of patch_frames; the outputs are `Dense`'s. B, T and M are free.
    opset: 18 or newer; from 23 on attention is one operation. verify: `check` it in onnxruntime before it gets its
    name. report: is told what is done now.
    Raises: UserError without onnx, onnxscript or (to verify) onnxruntime, for an unknown opset, an optimized encoder,
        a path that can't be written, and where the answers differ. What was at `path` then stays.
    """
    onnx, *_ = [_module(name) for name in ("onnx", "onnxscript", "onnxruntime")[: 3 if verify else 2]]
    if opset < OLDEST_OPSET:
        raise UserError(f"ONNX opset {opset} is too old: choose {OLDEST_OPSET} or newer.")

    def make(plain: Dense) -> bytes:
        program = torch.onnx.export(
            plain,
            (_example(plain.encoder),),
            dynamo=True,
            verbose=False,
            opset_version=opset,
            dynamic_shapes=_free(plain.encoder),
            input_names=["x"],
            output_names=list(plain.axes),
        )
        assert program is not None
        proto = program.model_proto
        if [used.version for used in proto.opset_import if not used.domain] != [opset]:
            raise UserError(f"torch {torch.__version__} can't write ONNX opset {opset}: choose an older one.")
        graph = proto.graph
        # The exporter notes with every value where in which source file it comes from, under symbols of its own.
        for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
            del part.metadata_props[:]
        del graph.value_info[:]
        for output, axes in zip(graph.output, plain.axes.values(), strict=True):
            for dim, name in zip(output.type.tensor_type.shape.dim, axes, strict=True):
                if isinstance(name, str):
                    dim.dim_param = name
        onnx.helper.set_model_props(proto, describe_export(model))
        return proto.SerializeToString()

    return _export(model, Path(path), make, _onnxruntime, verify, report)


def export_torch(
    model: SLiMEncoder, path: str | Path, *, verify: bool = True, report: Report = lambda _: None
) -> Exported:
    """Write `model` as a torch.export program for torch.export.load(path).module(), weights in float32, on the CPU.

    Input, outputs, verify and report as `export_onnx`; `describe_export`'s fields are its extra file EXTRA.
    Raises: UserError for an optimized encoder, a path that can't be written, and where the answers differ. What was at
        `path` then stays.
    """

    def make(plain: Dense) -> bytes:
        program = torch.export.export(plain, (_example(plain.encoder),), dynamic_shapes=_free(plain.encoder))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # names source files
        content = io.BytesIO()
        torch.export.save(program, content, extra_files={EXTRA: json.dumps(describe_export(model))})
        return content.getvalue()

    return _export(model, Path(path), make, _torch_program, verify, report)


def describe_export(model: SLiMEncoder) -> dict[str, str]:
    """What an exported file says of itself: slim_fast_version, topology (JSON: Topology.to_dict's, or the number of
    joints), channels, patch_frames and, of a classifier, num_classes and, if they have names, class_names (JSON).
    """
    topology = model.topology if isinstance(model.topology, int) else model.topology.to_dict()
    try:
        version = metadata.version("slim_fast")
    except metadata.PackageNotFoundError:
        version = "unknown"
    fields = {
        "slim_fast_version": version,
        "topology": json.dumps(topology),
        "channels": model.channel_names,
        "patch_frames": str(model.patch_size),
    }
    if isinstance(model, SLiMClassifier):
        fields["num_classes"] = str(model.num_classes)
        if model.class_names is not None:
            fields["class_names"] = json.dumps(model.class_names)
    return fields


def check(model: SLiMEncoder, run: Run, tolerance: float = TOLERANCE) -> dict[str, float]:
    """`run` against `model` (float32, on the CPU) on random clips of several B, T and M, with empty people.

    Returns, for each output, the largest error, relative to the output's largest value.
    Raises: UserError when one is above `tolerance` or an output has another shape.
    """
    generator, errors = torch.Generator().manual_seed(0), dict.fromkeys(Dense(model).axes, 0.0)
    for batch, times, people in _CHECKED:
        shape = (batch, model.channels, times * model.patch_size, model.joints, people)
        x = torch.randn(shape, generator=generator)
        x[-1, ..., 1:] = 0
        with torch.no_grad():
            outputs = zip(errors, run(x), _answers(model, x), strict=True)
        for name, got, want in outputs:
            if got.shape != want.shape:
                raise UserError(f"The exported program is wrong: {name} is {tuple(got.shape)} for clips {shape}.")
            want = want.float()
            error = float((got.float() - want).abs().max() / want.abs().max().clamp_min(1e-30))
            if not error <= tolerance:  # NaN is wrong too
                raise UserError(
                    f"The exported program is wrong: for clips {shape} {name} is off by {error:.1e} of its largest "
                    f"value (allowed: {tolerance:.0e}); try another opset or version of PyTorch."
                )
            errors[name] = max(errors[name], error)
    return errors


def _answers(model: SLiMEncoder, x: Tensor) -> list[Tensor]:
    """What `Dense`'s outputs should be."""
    # Subclasses may take other layouts.
    if isinstance(model, SLiMClassifier):
        return [SLiMClassifier.forward(model, x)]
    tokens = SLiMEncoder.forward_features(model, x)
    people = tokens["people"]
    cls, patches = (tokens[name].unflatten(0, people.shape) for name in ("x_norm_clstoken", "x_norm_patchtokens"))
    return [cls, patches, people]


def _export(
    model: SLiMEncoder,
    path: Path,
    make: Callable[[Dense], bytes],
    load: Callable[[bytes], Run],
    verify: bool,
    report: Report,
) -> Exported:
    """make: the file's content; load: that content as something to call."""
    Dense(model)  # says what can't be exported before it is copied
    plain = Dense(copy.deepcopy(model).to("cpu", torch.float32)).eval().requires_grad_(False)
    errors: dict[str, float] = {}

    def write(file: BinaryIO) -> None:
        report("Tracing the model ...")
        # Else a length of one patch, one clip or one person would be another program.
        with _quiet(), shapes.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]  # made at run time
            content = make(plain)
        if verify:
            report("Checking its answers against the model's ...")
            with _quiet():
                errors.update(check(plain.encoder, load(content)))
        file.write(content)

    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, write)
    except OSError as error:
        raise UserError(f"Could not write {path}: {error.strerror or error}; choose another path.") from error
    x = ("B", model.channels, f"{model.patch_size}*t", model.joints, "M")
    return Exported(path, {"x": x, **plain.axes}, errors)


def _example(model: SLiMEncoder) -> Tensor:
    """Clips to trace with, of sizes that differ."""
    return torch.zeros(2, model.channels, 4 * model.patch_size, model.joints, 3)


def _free(model: SLiMEncoder) -> tuple[dict[int, Any]]:
    return ({0: Dim("B", min=1), 2: model.patch_size * Dim("t", min=1), 4: Dim("M", min=1)},)


def _onnxruntime(content: bytes) -> Run:
    onnxruntime = _module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # its errors are raised
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own, which share no other base
        raise UserError(
            f"onnxruntime {onnxruntime.__version__} can't load the exported program ({error}): take an older --opset."
        ) from error
    return lambda x: [torch.from_numpy(output) for output in session.run(None, {"x": x.numpy()})]


def _torch_program(content: bytes) -> Run:
    return torch.export.load(io.BytesIO(content)).module()


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f'Exporting to ONNX needs {name}: pip install "slim_fast[onnx]".') from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters print about themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
