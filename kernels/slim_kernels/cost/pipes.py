"""On which pipe an instruction runs, of PTX and of SASS, and what a matrix instruction computes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptx_emulator.parser import Instruction

PIPES = ("tensor", "fma", "alu", "sfu", "load_store", "control")
_SASS = (
    ("tensor", r"[HIQDB]?G?MMA"),
    ("load_store", r"LD[GSLTC]?|LDGSTS|LDSM|ST[GSL]?|STSM|SHFL|ATOM[GS]?|RED|REDG|UTMA\w*"),
    ("sfu", r"MUFU|F2I|I2F|FRND|F2F"),
    ("fma", r"FFMA2?|FMUL2?|FADD2?|HFMA2|HADD2|HMUL2|IMAD|FSWZADD"),
    ("control", r"U[A-Z0-9]+|BRA|BRX|EXIT|BAR|B[A-Z]*SYNC|WARPSYNC|WARPGROUP\w*|NOP|S2U?R|CS2R"),
    ("control", r"DEPBAR|LDGDEPBAR|CALL|RET|BMOV|YIELD|ELECT|FENCE|MEMBAR|ERRBAR|CCTL\w*|R2UR"),
)
_SASS_PIPES = [(pipe, re.compile(pattern)) for pipe, pattern in _SASS]
_LOADS = {"ld", "st", "atom", "red", "ldmatrix", "stmatrix", "shfl", "cp", "redux", "prefetch"}
_CONTROL = {"bra", "ret", "exit", "bar", "barrier", "fence", "membar", "griddepcontrol", "elect"}
_SPECIAL = {"ex2", "lg2", "rcp", "rsqrt", "sqrt", "sin", "cos", "tanh", "div"}


def sass_pipe(opcode: str) -> str:
    """The pipe of a SASS instruction such as HMMA.16816.F32.BF16; alu for what is not known."""
    name = opcode.split(".")[0]
    return next((pipe for pipe, pattern in _SASS_PIPES if pattern.fullmatch(name)), "alu")


def ptx_pipe(instruction: Instruction) -> str:
    """The pipe of a PTX instruction."""
    name, words = instruction.name, instruction.modifiers
    if name in ("mma", "wgmma"):
        return "tensor" if name == "mma" or words[0] == "mma_async" else "control"
    if name in _CONTROL or (name == "cp" and words[-1:] != ("global",) and "global" not in words):
        return "control"
    if name in _LOADS:
        return "control" if "param" in words else "load_store"
    kind = instruction.kind
    if name in _SPECIAL and kind.startswith("f"):
        return "sfu"
    if name in ("fma", "mad", "mul", "add", "sub") and (kind.startswith("f") or name == "mad"):
        return "fma"
    return "alu"


def product(instruction: Instruction) -> tuple[str, str, int, int] | None:
    """Of a matrix instruction: its unit ("mma" or "wgmma"), its operands' type, its floating-point
    operations and the bytes of shared memory that it reads; None for others.
    """
    found = re.search(r"\.m(\d+)n(\d+)k(\d+)[^ ]*?\.f32\.(bf16|f16|tf32)", instruction.text)
    if found is None or instruction.name not in ("mma", "wgmma"):
        return None
    m, n, k = (int(found[number]) for number in (1, 2, 3))
    read = 0
    if instruction.name == "wgmma":
        size = 4 if found[4] == "tf32" else 2
        has_registers = hasattr(instruction.operands[1], "parts")
        read = size * k * (n + (0 if has_registers else m))
    return instruction.name, found[4], 2 * m * n * k, read


def shape(instruction: Instruction) -> str:
    """The shape of a matrix instruction, m64n32k16; "" for others."""
    found = re.search(r"\.(m\d+n\d+k\d+)", instruction.text)
    return found[1] if found and instruction.name in ("mma", "wgmma") else ""


def least_wavefronts(instruction: Instruction) -> float:
    """Wavefronts of 128 bytes that a whole warp's access of shared memory takes at least."""
    operands = instruction.operands
    parts = max(len(getattr(operand, "parts", (0,))) for operand in operands)
    if instruction.name in ("ldmatrix", "stmatrix"):
        return parts
    if instruction.name == "cp":
        return max(int(getattr(operands[2], "value", 4)) / 4, 1)
    return max(int(instruction.kind.lstrip("bfsux")) * parts / 32, 1)
