"""Encoders and classifiers as single files that run without slim_fast: ONNX and .pt2."""

from slim_fast.interop.export.onnx import OPSET, export_onnx
from slim_fast.interop.export.program import ExportedFile, describe_export
from slim_fast.interop.export.torch_program import export_torch

__all__ = ["OPSET", "ExportedFile", "describe_export", "export_onnx", "export_torch"]
