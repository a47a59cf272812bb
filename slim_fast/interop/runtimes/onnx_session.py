"""Programs in onnxruntime, in float32 or with weights and activations in int8."""

import tempfile
from pathlib import Path
from typing import Any

from slim_fast.interop.runtimes.programs import Program, Run
from slim_fast.interop.tracing import import_package, load_onnx, quiet

_PURPOSE = 'optimize(backend="onnxruntime")'


def require() -> Any:
    """onnxruntime, with what writes its programs. Raises: UserError when one is missing."""
    onnx, runtime = (import_package(name, "onnx", _PURPOSE) for name in ("onnx", "onnxruntime"))
    return onnx, runtime


def load(program: Program, precision: str) -> Run:
    """The program on as many threads as PyTorch has now.

    precision: fp32, or int8: the weights of linear maps are rounded for each output, activations by
    the range that they have in each call, so that no clips are needed to calibrate.
    """
    onnx, onnxruntime = require()
    content = _quantized(onnx, program.onnx) if precision == "int8" else program.onnx
    return load_onnx(onnxruntime, content, "encoder", "take another backend")


def _quantized(onnx: Any, content: bytes) -> bytes:
    """The program with int8 weights of linear maps, one scale an output."""
    from onnxruntime.quantization import quantize_dynamic  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            onnx.load_from_string(content),
            path,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm"],
            extra_options={"MatMulConstBOnly": True},
        )
        return path.read_bytes()
