"""python -m slim_kernels.check: compile every launch on file, without a GPU, and look at the result.

Prints registers, spilled bytes, shared memory and tensor-core instructions of each kernel; exits with 1 when one
spills, asks for more shared memory than its architecture has, or multiplies without tensor cores.
"""

import argparse
import itertools
import multiprocessing
import os
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

from slim_kernels import (
    attention_triton,
    embed_triton,
    linear_triton,
    norm_triton,
    prototype_triton,
    swiglu_triton,
)
from slim_kernels.launch import LAUNCHES, Shipped, choose

MODULES = (attention_triton, embed_triton, linear_triton, norm_triton, prototype_triton, swiglu_triton)
KERNELS: dict[str, Shipped] = {name: kernel for module in MODULES for name, kernel in module.SHIPPED.items()}
# 8.6, 8.9 and 12.x take the launches of 8.0 and have 99 KB.
SHARED_KB = {80: 99, 90: 227, 100: 227}
TENSOR_CORE = re.compile(r"\b(?:mma\.sync|wgmma\.mma_async|tcgen05\.mma)\b")


@dataclass(frozen=True)
class Case:
    """One kernel with one launch on one architecture."""

    kernel: str
    architecture: int
    dtype: str
    types: dict[str, str]
    constants: dict[str, Any]
    warps: int
    stages: int

    def __str__(self) -> str:
        constants = " ".join(f"{name}={value}" for name, value in self.constants.items() if name != "PRECISION")
        stream = self.dtype if "T" in (self.types.get("x"), self.types.get("residual")) else "fp32"
        return f"{self.kernel:<27}{self.architecture:>4} {self.dtype:<5}{stream:<7}{constants:<72}"


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
        return "" if self.tensor_core or not KERNELS[case.kernel].matrix else "no tensor cores"


def cases(dtypes: tuple[str, ...]) -> Iterator[Case]:
    """Every launch on file with every set of constants it is meant for."""
    for name, by_architecture in LAUNCHES.items():
        for (architecture, options), dtype in itertools.product(by_architecture.items(), dtypes):
            for sizes in itertools.product(*KERNELS[name].sizes):
                yield from cases_of(name, architecture, dtype, sizes, choose(options, *sizes))


def cases_of(name: str, architecture: int, dtype: str, sizes: tuple[int, ...], tile: dict[str, int]) -> Iterator[Case]:
    """A launch of one kernel, `tile`, with every set of constants and dtypes it is meant for at these sizes."""
    kernel = KERNELS[name]
    shape = {key: value for key, value in tile.items() if not key.startswith("num_")}
    for stream, variant in itertools.product(kernel.streams, kernel.variants(*sizes)):
        types = kernel.types | {key: kind for key, kind in variant.items() if key.islower()}
        types = {key: stream if kind == "S" else kind for key, kind in types.items()}
        constants = {key: value for key, value in variant.items() if not key.islower()} | shape
        yield Case(name, architecture, dtype, types, constants, tile["num_warps"], tile["num_stages"])


def compile_case(case: Case) -> Usage:
    """Compile for the case's architecture and read the binary's resource usage."""
    kernel = KERNELS[case.kernel]
    names = kernel.function.arg_names
    signature = {name: _type(name, case) for name in names}
    place = {name: (number,) for number, name in enumerate(names)}
    compiled = triton.compile(
        ASTSource(
            kernel.function,
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
    kernel = KERNELS[case.kernel]
    if name in case.constants:
        return "constexpr"
    return kernel.scalars[name] if name in kernel.scalars else "*" + case.types[name].replace("T", case.dtype)


def _look(case: Case) -> tuple[Usage | None, str]:
    try:
        usage = compile_case(case)
    except Exception as error:  # whatever the compiler says is what the table shows
        return None, f"does not compile: {error!s:.200}".replace("\n", " ")
    return usage, usage.fault(case)


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser("python -m slim_kernels.check", description=__doc__)
    parser.add_argument(
        "--kernel", choices=sorted(LAUNCHES), action="append", help="only this kernel (may be repeated)"
    )
    parser.add_argument("--architecture", type=int, choices=sorted(SHARED_KB), action="append", help="only this one")
    parser.add_argument("--dtype", choices=("bf16", "fp16"), action="append", help="only this one; both otherwise")
    told = parser.parse_args(arguments)
    if os.environ.get("TRITON_INTERPRET") == "1":
        print("error: Triton's interpreter compiles nothing; unset TRITON_INTERPRET.", file=sys.stderr)
        return 2
    chosen = [
        case
        for case in cases(tuple(told.dtype or ("bf16", "fp16")))
        if case.kernel in (told.kernel or LAUNCHES) and case.architecture in (told.architecture or SHARED_KB)
    ]
    faults = 0
    head = f"{'kernel':<27}{'sm':>4} {'type':<5}{'stream':<7}{'constants':<72}"
    print(f"{head}{'regs':>5}{'spill':>6}{'shared':>8}{'mma':>5}")
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for case, (usage, fault) in zip(chosen, pool.imap(_look, chosen), strict=True):
            faults += bool(fault)
            figures = (
                f"{usage.registers:>5}{usage.spilled:>6}{usage.shared:>8}{usage.tensor_core:>5}" if usage else " " * 24
            )
            print(f"{case}{figures}  {fault}", flush=True)
    print(f"{faults} faults" if faults else f"every launch is sound ({len(chosen)} compiled)")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
