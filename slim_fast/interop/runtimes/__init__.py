"""Encoders answered by another runtime than PyTorch: OpenVINO, onnxruntime, or the fastest."""

from slim_fast.interop.runtimes.choose import check_choices, optimize_with
from slim_fast.interop.runtimes.programs import Runtimes

__all__ = ["Runtimes", "check_choices", "optimize_with"]
