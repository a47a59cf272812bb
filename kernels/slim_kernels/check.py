"""python -m slim_kernels.check: compile every launch on file, in bfloat16, without a GPU, and look at the result.

Prints registers, spilled bytes, shared memory and tensor-core instructions of each kernel; exits with 1 when one
spills, asks for more shared memory than its architecture has, or multiplies without tensor cores.
"""

import itertools
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from slim_kernels import attention_triton
from slim_kernels.launch import ATTENTION, attention_launch

SHARED_KB = {80: 163, 90: 227, 100: 227}
HEAD_SIZES = (16, 32, 64)
TYPES = {"qkv": "bf16", "out": "bf16", "grad": "bf16", "grad_qkv": "bf16", "time": "i32", "cu_seqlens": "i32"}
TENSOR_CORE = re.compile(r"\b(?:mma\.sync|wgmma\.mma_async|tcgen05\.mma)\b")


@dataclass(frozen=True)
class Case:
    """One kernel with one launch on one architecture."""

    kernel: str
    architecture: int
    constants: dict[str, Any]
    warps: int
    stages: int


@dataclass(frozen=True)
class Usage:
    """What the compiler made of a case."""

    registers: int
    spilled: int
    shared: int
    tensor_core: int

    def fault(self, case: Case) -> str:
        """Why the case must not ship, or ""."""
        if self.spilled:
            return "spills"
        if self.shared > SHARED_KB[case.architecture] * 1024:
            return "too much shared memory"
        return "" if self.tensor_core else "no tensor cores"


def cases() -> Iterator[Case]:
    """Every launch on file, with every head size, with and without a visibility mask."""
    for (kernel, by_architecture), head, visible in itertools.product(ATTENTION.items(), HEAD_SIZES, (False, True)):
        for architecture, options in by_architecture.items():
            for longest in sorted({option[0] for option in options}):
                launch = attention_launch(kernel, longest, head, architecture)
                warps, stages = launch.pop("num_warps"), launch.pop("num_stages")
                constants = {"H": 8, "D": head, "VISIBLE": visible, "PRECISION": "ieee", **launch}
                yield Case(kernel, architecture, constants, warps, stages)


def compile_case(case: Case) -> Usage:
    """Compile for the case's architecture and read the binary's resource usage."""
    function = getattr(attention_triton, f"{case.kernel}_kernel")
    names = function.arg_names
    signature = {name: _type(name, case) for name in names}
    place = {name: (number,) for number, name in enumerate(names)}
    compiled = triton.compile(
        ASTSource(
            function,
            signature,
            {place[name]: value for name, value in case.constants.items()},
            {place[name]: [["tt.divisibility", 16]] for name in names if signature[name].startswith("*")},
        ),
        target=GPUTarget("cuda", case.architecture, 32),
        options={"num_warps": case.warps, "num_stages": case.stages},
    )
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        done = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", done.stdout)
    assert found is not None, done.stdout
    return Usage(int(found[1]), int(found[2]), compiled.metadata.shared, len(TENSOR_CORE.findall(compiled.asm["ptx"])))


def _type(name: str, case: Case) -> str:
    if name in case.constants:
        return "constexpr"
    if name in ("scale", "total"):
        return "fp32" if name == "scale" else "i32"
    if name == "visible":
        return "*i1" if case.constants["VISIBLE"] else "*i32"
    return "*" + TYPES.get(name, "fp32")


def main() -> int:
    """Returns the process' exit status."""
    print(f"{'kernel':<18}{'sm':>4}{'head':>6}{'tile':>9}{'mask':>6}{'regs':>6}{'spill':>7}{'shared':>9}{'mma':>5}")
    faults = 0
    for case in cases():
        usage, constants = compile_case(case), case.constants
        fault = usage.fault(case)
        faults += bool(fault)
        tile, mask = f"{constants['BM']}x{constants['BN']}", "yes" if constants["VISIBLE"] else "no"
        print(
            f"{case.kernel:<18}{case.architecture:>4}{constants['D']:>6}{tile:>9}{mask:>6}{usage.registers:>6}"
            f"{usage.spilled:>7}{usage.shared:>9}{usage.tensor_core:>5}  {fault}",
            flush=True,
        )
    print(f"{faults} faults" if faults else "every launch is sound")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
