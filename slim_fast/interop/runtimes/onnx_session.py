"""Programs in onnxruntime, in float32 or with weights and activations in int8."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from slim_fast.interop.runtimes.programs import Program, Run
from slim_fast.interop.tracing import import_package, load_onnx, quiet

_PURPOSE = 'optimize(backend="onnxruntime")'
_PRODUCTS = ["MatMul", "Gemm"]
_BATCH = 16  # people calibrated on at a time


def require() -> Any:
    """onnxruntime, with what writes its programs. Raises: UserError when one is missing."""
    onnx, runtime = (import_package(name, "onnx", _PURPOSE) for name in ("onnx", "onnxruntime"))
    return onnx, runtime


def load(program: Program, precision: str) -> Run:
    """The program on as many threads as PyTorch has now.

    precision: fp32, or int8: the weights of linear maps are rounded for each output, activations by
    the range that they have in the program's calibration, or without one in each call.
    """
    onnx, onnxruntime = require()
    content = _quantized(onnx, program) if precision == "int8" else program.onnx
    return load_onnx(onnxruntime, content, "encoder", "take another backend")


def _quantized(onnx: Any, program: Program) -> bytes:
    """The program with int8 weights of linear maps, one scale an output."""
    from onnxruntime import quantization  # type: ignore[import-untyped]

    model = onnx.load_from_string(program.onnx)
    options: dict[str, Any] = {"MatMulConstBOnly": True}
    settings = {"per_channel": True, "op_types_to_quantize": _PRODUCTS, "extra_options": options}
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "int8.onnx"
        if program.calibration is None:
            quantization.quantize_dynamic(model, path, **settings)
        else:
            # sums stay in float32: rounding them too takes longer, and its error adds to the others
            options["OpTypesToExcludeOutputQuantization"] = _PRODUCTS
            types = {
                "activation_type": quantization.QuantType.QUInt8,
                "weight_type": quantization.QuantType.QInt8,
            }
            clips = _Clips(iter(program.calibration.split(_BATCH)))
            quantization.quantize_static(model, path, clips, **types, **settings)
        return path.read_bytes()


class _Clips:
    """Batches as onnxruntime's calibration asks for them."""

    def __init__(self, batches: Iterator[Tensor]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"x": batch.numpy()}
