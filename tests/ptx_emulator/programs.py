"""Small PTX programs for tests: a body with pointers to numpy arrays, or one instruction on a value
a lane.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from ptx_emulator import Report, Tensor, launch

Array = NDArray[Any]
SIZES = {"b8": 8, "bf16": 16, "bf16x2": 32, "f16x2": 32, "tf32": 32, "pred": 32}
DTYPES = {"s": "int", "u": "uint", "b": "uint", "f": "float"}


def dtype(kind: str) -> np.dtype[Any]:
    """Of numbers of a PTX type in memory; bfloat16, packed pairs and predicates as bits."""
    if kind in SIZES:
        return np.dtype(f"uint{SIZES[kind]}")
    return np.dtype(f"{DTYPES[kind[0]]}{kind[1:]}")


def program(body: str, pointers: int, shared: int = 0) -> str:
    """A kernel `test` with the thread's number in %t and its arguments in %ptr0, %ptr1, ..."""
    parameters = ", ".join(f".param .u64 .ptr .global p{n}" for n in range(pointers))
    load = "\n".join(f"ld.param.u64 %ptr{n}, [p{n}];" for n in range(pointers))
    memory = f".shared .align 128 .b8 memory[{shared}];" if shared else ""
    return f"""
.version 8.4
.target sm_90a
.file 1 "/somewhere/kernel.py"
.visible .entry test({parameters})
{{
.reg .pred %p<9>;
.reg .b16 %h<99>;
.reg .b32 %r<99>;
.reg .f32 %f<99>;
.reg .b64 %d<99>;
.reg .b64 %ptr<{pointers}>;
.reg .b32 %t;
{memory}
{load}
mov.u32 %t, %tid.x;
{body}
ret;
}}
"""


def run(
    body: str,
    *arrays: Array,
    threads: int = 32,
    grid: tuple[int, int, int] = (1, 1, 1),
    shared: int = 0,
    strict: bool = True,
) -> Report:
    """Run a body on arrays, which it changes."""
    tensors = [
        Tensor(a.ctypes.data, a.reshape(-1).view(np.uint8), a.itemsize, f"p{n}")
        for n, a in enumerate(arrays)
    ]
    addresses: list[int | float] = [t.address for t in tensors]
    return launch(
        program(body, len(arrays), shared), grid, threads, addresses, tensors, strict=strict
    )


def place(pointer: int, size: int, register: str = "%d90") -> str:
    """The address of this thread's element of `size` bytes, in a register."""
    return f"mul.wide.u32 {register}, %t, {size};\nadd.s64 {register}, {register}, %ptr{pointer};\n"


def apply(instruction: str, result: str, *operands: tuple[str, Any]) -> Array:
    """What an instruction gives for columns of operands, one row a lane.

    result and the operands' first halves are PTX types; operands that are text are written as they
    are. The instruction's result is a vector where `result` names a type twice ("b32 b32").
    """
    columns = [
        np.atleast_1d(np.asarray(v, dtype(k))) for k, v in operands if not isinstance(v, str)
    ]
    count = max(map(len, columns))
    arrays = [np.resize(column, -(-count // 32) * 32) for column in columns]
    body, names, number = "", [], 0
    for kind, value in operands:
        if isinstance(value, str):
            names.append(value)
            continue
        size = dtype(kind).itemsize
        body += f".reg .{kind if kind == 'pred' else f'b{max(8 * size, 16)}'} %x{number};\n"
        body += place(number, size)
        if kind == "pred":
            body += f"ld.global.u32 %r90, [%d90];\nsetp.ne.u32 %x{number}, %r90, 0;\n"
        else:
            body += f"ld.global.b{8 * size} %x{number}, [%d90];\n"
        names.append(f"%x{number}")
        number += 1
    kinds = result.split()
    for n, kind in enumerate(kinds):
        out = np.zeros(len(arrays[0]), dtype(kind))
        arrays.append(out)
        body += f".reg .{kind if kind == 'pred' else f'b{max(8 * out.itemsize, 16)}'} %y{n};\n"
    results = ["%y0", "%y1"][: len(kinds)]
    written = results[0] if len(kinds) == 1 else f"{{{', '.join(results)}}}"
    if kinds == ["b32", "pred"]:
        written = "|".join(results)
    body += f"{instruction} {', '.join([written, *names])};\n"
    for n, kind in enumerate(kinds):
        size = arrays[number + n].itemsize
        body += place(number + n, size)
        if kind == "pred":
            body += f"selp.u32 %r91, 1, 0, %y{n};\nst.global.u32 [%d90], %r91;\n"
        else:
            body += f"st.global.b{8 * size} [%d90], %y{n};\n"
    run(body, *arrays, threads=len(arrays[0]))
    found = [array[:count] for array in arrays[number:]]
    return found[0] if len(found) == 1 else np.stack(found)
