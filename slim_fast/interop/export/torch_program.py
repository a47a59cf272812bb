"""Models as torch.export programs, .pt2."""

import io
import json
from pathlib import Path

import torch

from slim_fast.interop.encoder import SLiMEncoder
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

EXTRA = "slim_fast.json"
"""The extra file of a .pt2 that holds its metadata."""


def export_torch(
    model: SLiMEncoder, path: str | Path, *, verify: bool = True, report: Report = lambda _: None
) -> ExportedFile:
    """Write `model` as a torch.export program in float32 on the CPU.

    Load it with torch.export.load(path).module(). Input, outputs, verify and report as
    `export_onnx`; `describe_export`'s fields are its extra file EXTRA.
    Raises: UserError for an optimized encoder, a path that can't be written, and where the outputs
    differ. What was at `path` then stays.
    """

    def make(plain: ExportModule) -> bytes:
        program = torch.export.export(
            plain, (example_clips(plain.encoder),), dynamic_shapes=dynamic_axes(plain.encoder)
        )
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # names source files
        content = io.BytesIO()
        torch.export.save(program, content, extra_files={EXTRA: json.dumps(describe_export(model))})
        return content.getvalue()

    return write_program(model, Path(path), make, _torch_program, verify, report)


def _torch_program(content: bytes) -> Run:
    return torch.export.load(io.BytesIO(content)).module()
