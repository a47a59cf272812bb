"""Every launch on file, compiled without a GPU: `python -m slim_kernels.check`."""

from slim_kernels.check.cases import DEVICES, KERNELS, OPS, Case, cases, cases_of, sample
from slim_kernels.check.compiled import Usage, compile_case, compile_kernel

__all__ = [
    "DEVICES",
    "KERNELS",
    "OPS",
    "Case",
    "Usage",
    "cases",
    "cases_of",
    "compile_case",
    "compile_kernel",
    "sample",
]
