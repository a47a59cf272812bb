"""Models as ONNX files."""

from pathlib import Path

import torch

from slim_fast.errors import UserError
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.interop.export.lowering import lower_to_17
from slim_fast.interop.export.module import ExportModule
from slim_fast.interop.export.program import (
    ExportedFile,
    Report,
    describe_export,
    dynamic_axes,
    example_clips,
    write_program,
)
from slim_fast.interop.export.verify import Run
from slim_fast.interop.tracing import import_package, load_onnx

OLDEST_OPSET, OPSET = 17, 20
EXPORTED = 18  # torch's exporter writes no older one
_EXTRA = "onnx", "Exporting to ONNX"


def export_onnx(
    model: SLiMEncoder,
    path: str | Path,
    *,
    opset: int = OPSET,
    verify: bool = True,
    report: Report = lambda _: None,
) -> ExportedFile:
    """Write `model` to an ONNX file, its weights (float32) and `describe_export`'s fields in it.

    The input x is float32 (B, C, T, V, M), T a multiple of patch_frames; the outputs are
    `ExportModule`'s. B, T and M are dynamic.

    Args:
        opset: 17 or newer; from 23 on attention is one operation.
        verify: compare it with the model in onnxruntime before the file gets its name, see `check`.
        report: called with a line on each step.

    Raises: UserError without onnx, onnxscript or (to verify) onnxruntime, for an unknown opset, an
    optimized encoder, a path that can't be written, and where the outputs differ. What was at
    `path` then stays.
    """
    onnx, *_ = [
        import_package(name, *_EXTRA)
        for name in ("onnx", "onnxscript", "onnxruntime")[: 3 if verify else 2]
    ]
    if opset < OLDEST_OPSET:
        raise UserError(f"ONNX opset {opset} is too old: choose {OLDEST_OPSET} or newer.")

    def make(plain: ExportModule) -> bytes:
        program = torch.onnx.export(
            plain,
            (example_clips(plain.encoder),),
            dynamo=True,
            verbose=False,
            opset_version=max(opset, EXPORTED),
            dynamic_shapes=dynamic_axes(plain.encoder),
            input_names=["x"],
            output_names=list(plain.axes),
        )
        assert program is not None
        proto = program.model_proto
        if opset < EXPORTED:
            lower_to_17(proto)
        if [used.version for used in proto.opset_import if not used.domain] != [opset]:
            raise UserError(
                f"torch {torch.__version__} can't write ONNX opset {opset}: choose an older one."
            )
        graph = proto.graph
        # The exporter stores with every value the source file and line that it comes from.
        for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
            del part.metadata_props[:]
        del graph.value_info[:]
        for output, axes in zip(graph.output, plain.axes.values(), strict=True):
            for dim, name in zip(output.type.tensor_type.shape.dim, axes, strict=True):
                if isinstance(name, str):
                    dim.dim_param = name
        # runtimes refuse newer ones than they know
        proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import)
        onnx.helper.set_model_props(proto, describe_export(model))
        onnx.checker.check_model(proto, full_check=True)
        return proto.SerializeToString()

    return write_program(model, Path(path), make, _onnxruntime, verify, report)


def _onnxruntime(content: bytes) -> Run:
    onnxruntime = import_package("onnxruntime", *_EXTRA)
    return load_onnx(onnxruntime, content, "exported program", "take an older --opset")
