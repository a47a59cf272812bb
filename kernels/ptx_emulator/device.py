"""A device that Triton takes for its own: kernels compile as for a GPU and run in the emulator."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from triton.backends import Backend, backends
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend
from triton.compiler.compiler import CompiledKernel
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

from ptx_emulator.global_memory import Tensor
from ptx_emulator.launch import Report, launch

# bytes of shared memory that one block may have
SHARED_BYTES = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024}
SHARED_BYTES[120] = 99 * 1024


@dataclass
class EmulatedGPU:
    """An emulated device and what ran on it."""

    capability: int
    """90 for sm_90."""
    detailed: bool = False
    """Whether launches count sectors and bank conflicts."""
    strict: bool = True
    """Whether a finding raises."""
    edit: Callable[[str], str] | None = None
    """Changes the PTX before it runs, to try what a fault in it would do."""
    reports: list[Report] = field(default_factory=list)
    """One for each launch, in order."""
    kernels: list[CompiledKernel] = field(default_factory=list)
    """What each launch ran."""

    def run(self, kernel: CompiledKernel, grid: tuple[int, int, int], arguments: list[Any]) -> None:
        """Run a compiled kernel on CPU tensors."""
        signature = kernel.src.signature
        values: list[int | float] = []
        tensors: list[Tensor] = []
        for (name, kind), argument in zip(signature.items(), arguments, strict=True):
            if kind == "constexpr":
                continue
            if isinstance(argument, torch.Tensor):
                values.append(argument.data_ptr())
                if argument.numel():
                    tensors.append(_tensor(argument, name))
            elif kind.startswith("fp"):
                values.append(float(argument))
            else:
                values.append(0 if argument is None else int(argument))
        ptx = bytes(kernel.asm["ptx"]).decode()
        # behind a kernel's own parameters Triton passes scratch memory, which these do not use
        header = re.search(r"\.entry.*?\((.*?)\)", ptx, re.S)
        values += [0] * (header[1].count(".param") - len(values) if header else 0)
        self.kernels.append(kernel)
        self.reports.append(
            launch(
                self.edit(ptx) if self.edit else ptx,
                grid,
                32 * kernel.metadata.num_warps,
                values,
                tensors,
                kernel.metadata.shared,
                self.detailed,
                self.strict,
            )
        )


def _tensor(x: torch.Tensor, name: str) -> Tensor:
    """The bytes from x's first to its last element, which may leave out some between."""
    extent = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    item = x.element_size()
    memory = (ctypes.c_uint8 * (extent * item)).from_address(x.data_ptr())
    return Tensor(x.data_ptr(), np.ctypeslib.as_array(memory), item, name)


class _Utils:
    def __init__(self, gpu: EmulatedGPU) -> None:
        self.gpu = gpu

    def get_device_properties(self, device: int) -> dict[str, int]:
        shared = SHARED_BYTES.get(self.gpu.capability, 99 * 1024)
        return {"max_shared_mem": shared, "multiprocessor_count": 4, "warpSize": 32}

    def unload_module(self, module: Any) -> None:
        pass


class _Driver:
    """What triton.runtime.driver asks of a device's driver."""

    def __init__(self, gpu: EmulatedGPU) -> None:
        self.gpu, self.utils = gpu, _Utils(gpu)

    def get_current_device(self) -> int:
        # Triton keeps compiled kernels by device: each target needs a number of its own
        return 10_000 + self.gpu.capability

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.gpu.capability, 32)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_device_capability(self, device: int | None = None) -> tuple[int, int]:
        return divmod(self.gpu.capability, 10)

    @staticmethod
    def is_active() -> bool:
        return True


class _PTXBackend(CUDABackend):  # type: ignore[misc]
    """Triton's own, which stops at PTX: what ptxas makes of it is not run here."""

    def __init__(self, target: GPUTarget) -> None:
        super().__init__(target)
        self.binary_ext = "ptx"

    def hash(self) -> str:
        # a GPU's cache must not find kernels without a binary
        return f"{super().hash()}-ptx"

    def add_stages(self, stages: dict[str, Any], options: Any, language: Any) -> None:
        super().add_stages(stages, options, language)
        del stages["cubin"]


@contextlib.contextmanager
def emulated_gpu(target: str, **options: Any) -> Iterator[EmulatedGPU]:
    """While it is open, Triton's kernels compile for `target` ("sm_80", "sm_90", ...) and run on
    CPU tensors in the emulator.

    options: `detailed`, `strict` and `edit` of `EmulatedGPU`, which is yielded. Kernels that were
    defined under TRITON_INTERPRET=1 are compiled too.
    Raises:
        EmulationError: from a launch with findings.
    """
    gpu = EmulatedGPU(int(target.removeprefix("sm_")), **options)

    def start(kernel: CompiledKernel) -> None:
        def run(x: int, y: int, z: int, stream: int, function: Any, *rest: Any) -> None:
            # packed metadata, launch metadata and two hooks come before the arguments
            gpu.run(kernel, (x, y, z), list(rest[4:]))

        kernel._run, kernel.module, kernel.function = run, None, 1

    before, original = triton.runtime.driver._active, CompiledKernel._init_handles
    backend = backends["nvidia"]
    CompiledKernel._init_handles = start
    backends["nvidia"] = Backend(_PTXBackend, backend.driver)
    triton.runtime.driver.set_active(_Driver(gpu))
    _restore_language()
    try:
        with _compiled_functions():
            yield gpu
    finally:
        CompiledKernel._init_handles = original
        backends["nvidia"] = backend
        triton.runtime.driver._active = before


def _restore_language() -> None:
    """Undo what interpreted kernels left in triton.language.core.

    The interpreter puts its own functions there for each function of triton.language that a kernel
    calls (InterpretedFunction.__call__, Triton 3.6 to 3.9) and leaves them: kernels that compile
    afterwards in the same process would fail.
    """
    exported = vars(tl)
    for name, value in list(vars(tl.core).items()):
        if callable(value) and callable(exported.get(name)):
            original = exported[name]
        else:  # one that triton.language does not export keeps what it replaced as a default
            original = value
            while getattr(original, "__module__", None) == "triton.runtime.interpreter":
                original = original.__kwdefaults__["member"]
        setattr(tl.core, name, original)


@contextlib.contextmanager
def _compiled_functions() -> Iterator[None]:
    """Kernels that the interpreter took, in all modules, as kernels to compile.

    Raises:
        RuntimeError: from a launch of one that was defined later.
    """
    replaced: dict[int, JITFunction] = {}
    places: list[tuple[Any, str, Any]] = []
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if type(value) is InterpretedFunction:
                replaced.setdefault(id(value), JITFunction(value.fn))
                places.append((module, name, value))
    for module, name, value in places:
        setattr(module, name, replaced[id(value)])

    def refuse(self: InterpretedFunction, *arguments: Any, **options: Any) -> None:
        raise RuntimeError(
            f"{self.fn.__name__} was defined under TRITON_INTERPRET=1 after emulated_gpu was "
            "opened; import its module before, or unset TRITON_INTERPRET"
        )

    run = InterpretedFunction.run
    InterpretedFunction.run = refuse
    try:
        yield
    finally:
        InterpretedFunction.run = run
        for module, name, value in places:
            setattr(module, name, value)
