"""ptx_emulator: run the PTX of a Triton kernel on a CPU, in numpy, and find what is wrong with it.

`launch` runs PTX on the host's memory. `emulated_gpu("sm_90")` makes Triton take an emulated device
for its own, so that `kernel[grid](...)` on CPU tensors compiles as for a GPU and runs here; it
needs triton and torch, the rest needs numpy only.
"""

from ptx_emulator.findings import KINDS, EmulationError, Finding
from ptx_emulator.global_memory import Tensor
from ptx_emulator.launch import Report, launch
from ptx_emulator.parser import PTXError, parse

__all__ = ["KINDS", "EmulationError", "Finding", "PTXError", "Report", "Tensor", "launch", "parse"]
