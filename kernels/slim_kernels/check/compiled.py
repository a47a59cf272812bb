"""Compiling a case as a run on its device would, without the device, and what came out."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import MockTensor, driver

from slim_kernels.check.cases import DEVICES, KERNELS, Case
from slim_kernels.runtime.launch import COMPILED_WITH, Architecture

TORCH_TYPES = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "i1": torch.bool,
    "i32": torch.int32,
    "i64": torch.int64,
}
MATRIX = {
    "cubin": re.compile(r"\b(?:mma\.sync|wgmma\.mma_async|tcgen05\.mma)\b"),
    "hsaco": re.compile(r"\bv_s?mfmac?_"),
}


class AbsentDevice:
    """What Triton asks of a driver before it compiles: a GPU that need not be there."""

    def __init__(self, architecture: Architecture) -> None:
        amd = isinstance(architecture, str)
        self.target = GPUTarget("hip" if amd else "cuda", architecture, 64 if amd else 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> Architecture:
        return self.target.arch  # kernels are kept by device

    def get_current_stream(self, device: Architecture) -> int:
        return 0


@dataclass(frozen=True)
class Usage:
    """What the compiler made of a case."""

    registers: int
    spilled: int
    """Bytes of a thread on NVIDIA, registers on AMD."""
    shared: int
    tensor_core: int

    def fault(self, case: Case) -> str:
        """Why the case must not ship, or ""."""
        if self.spilled:
            return "spills"
        if self.shared > DEVICES[case.architecture].shared_kb * 1024:
            return "too much shared memory"
        return "" if self.tensor_core or not KERNELS[case.kernel].matrix else "no tensor cores"


def arguments(case: Case) -> dict[str, Any]:
    """What a run passes to the case's kernel, by name."""
    numbers = {"fp32": 0.5, "i32": 7, "i64": 2**31 + 7 if case.wide else 7}
    spec = KERNELS[case.kernel]
    return {
        name: case.constants[name]
        if name in case.constants
        else numbers[spec.scalars[name]]
        if name in spec.scalars
        else _tensor(case.pointer(name), case.wide)
        for name in spec.function.arg_names
    }


def _tensor(dtype: str, large: bool) -> Any:
    tensor = MockTensor(TORCH_TYPES[dtype])
    if large:
        tensor.ptr_range = lambda: 2**31  # what AMD's backend looks at
    return tensor


def compile_kernel(case: Case) -> Any:
    """Triton's CompiledKernel, by the signature that Triton finds for a run's arguments."""
    before = driver._active  # driver.active would look for a GPU
    driver.set_active(AbsentDevice(case.architecture))
    function = KERNELS[case.kernel].function
    options = {"num_warps": case.warps, "num_stages": case.stages, **COMPILED_WITH}
    try:
        return function.warmup(**arguments(case), grid=(1,), **options)
    finally:
        driver.set_active(before)
        function.device_caches.pop(case.architecture, None)  # thousands would fill the memory


def compile_case(case: Case) -> Usage:
    """Compile for the case's device and read the binary's resource usage."""
    compiled = compile_kernel(case)
    amd = "hsaco" in compiled.asm
    registers, spilled, static = (_amd if amd else _nvidia)(compiled)
    assembly = compiled.asm["amdgcn" if amd else "ptx"]
    matrix = len(MATRIX["hsaco" if amd else "cubin"].findall(assembly))
    return Usage(registers, spilled, compiled.metadata.shared + static, matrix)


def _nvidia(compiled: Any) -> tuple[int, int, int]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        done = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", done.stdout)
    assert found is not None, done.stdout
    return int(found[1]), int(found[2]), 0


def _amd(compiled: Any) -> tuple[int, int, int]:
    def count(name: str) -> int:
        found = re.search(rf"\.{name}: +(\d+)", compiled.asm["amdgcn"])
        assert found is not None, name
        return int(found[1])

    spilled = count("vgpr_spill_count") + count("sgpr_spill_count")
    return count("vgpr_count"), spilled, count("group_segment_fixed_size")


def look(case: Case) -> tuple[Usage | None, str]:
    """A case's usage (None where it does not compile) and its fault or ""."""
    try:
        usage = compile_case(case)
    except Exception as error:  # whatever the compiler says is what the table shows
        return None, f"does not compile: {error!s:.200}".replace("\n", " ")
    return usage, usage.fault(case)
