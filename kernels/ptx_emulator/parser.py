"""PTX text to a `Program`: instructions with operands, predicates, labels and source lines.

Reads the dialect that LLVM's NVPTX backend writes for one kernel (`.entry`) without calls.
"""

import re
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache

BITS = {"pred": 1, "bf16": 16, "tf32": 32, "bf16x2": 32, "f16x2": 32}
# Shared memory starts here in its own window: a multiple of the range of a matrix descriptor's
# addresses (18 bits), so that they need no carry.
SHARED_BASE = 1 << 18


class PTXError(ValueError):
    """The text is no PTX that this emulator reads; the message names the instruction."""


@cache
def bits(kind: str) -> int:
    """The width of a PTX type such as u32, pred or bf16x2."""
    return BITS.get(kind) or int(kind[1:])


@dataclass(frozen=True)
class Register:
    """A virtual register, by its place in the program's list."""

    slot: int
    name: str
    bits: int


@dataclass(frozen=True)
class Immediate:
    """A literal: its bits, which are a float's where `is_float`."""

    value: int
    is_float: bool = False


@dataclass(frozen=True)
class Special:
    """A register that hardware fills, such as tid.x."""

    name: str


@dataclass(frozen=True)
class Symbol:
    """A label, a parameter, a variable in shared memory, or `_`, a result that nobody reads."""

    name: str


@dataclass(frozen=True)
class Address:
    """[base + offset], in bytes."""

    base: "Register | Symbol | Immediate"
    offset: int = 0


@dataclass(frozen=True)
class Vector:
    """{a, b, ...}"""

    parts: tuple["Operand", ...]


Operand = Register | Immediate | Special | Symbol | Address | Vector


@dataclass(frozen=True, eq=False)
class Instruction:
    """One instruction of a program."""

    number: int
    name: str
    """The first word: add, ld, wgmma."""
    modifiers: tuple[str, ...]
    """The words behind it: ("lo", "s32")."""
    operands: tuple[Operand, ...]
    predicate: Register | None
    negated: bool
    source: str
    """file:line of the kernel, or "" where the text has no line information."""
    text: str
    registers: frozenset[int] = field(repr=False)
    """The slots of all registers that it names, its predicate's included."""

    @property
    def kind(self) -> str:
        """The last word, which is the type of most instructions."""
        return self.modifiers[-1] if self.modifiers else ""


@dataclass(frozen=True, eq=False)
class Program:
    """A kernel, ready to run."""

    name: str
    target: str
    parameters: dict[str, tuple[int, int]]
    """name -> offset and size in bytes"""
    pointers: tuple[str, ...]
    """The parameters that are pointers."""
    instructions: tuple[Instruction, ...]
    labels: dict[str, int]
    registers: int
    shared: dict[str, int]
    """Variables in shared memory -> address in its window; the dynamic part comes last."""
    static_shared: int
    """Bytes of shared memory before the dynamic part."""

    @cached_property
    def has_warpgroups(self) -> bool:
        """Whether it multiplies with wgmma."""
        return any(instruction.name == "wgmma" for instruction in self.instructions)

    @cached_property
    def grain(self) -> int:
        """The bytes of shared memory that are tracked as one: its smallest access."""
        accesses = (i for i in self.instructions if i.name in ("ld", "st", "atom"))
        sizes = [bits(i.kind) // 8 for i in accesses if "shared" in i.modifiers]
        return min([*sizes, 4])


_NUMBER = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|\d+)U?")
_SPECIAL = re.compile(r"%(?:tid|ntid|ctaid|nctaid)\.[xyz]|%(?:laneid|warpid|cluster_ctarank|clock)")


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "{[(") - (letter in "}])")
        if letter == "," and not depth:
            parts.append(text[start:place].strip())
            start = place + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


class _Parser:
    def __init__(self, text: str) -> None:
        text = re.sub(r"//[^\n]*", "", text)
        entry = re.search(r"\.entry\s+([\w$]+)\s*\((.*?)\)(.*?)\{(.*)", text, re.S)
        if entry is None:
            raise PTXError("The text has no .entry: it is not a kernel's PTX.")
        self.name, header, self.body = entry[1], entry[2], entry[4]
        self.target = (re.search(r"\.target\s+(\w+)", text) or ["", ""])[1]
        self.files = {
            number: path.rsplit("/", 1)[-1]
            for number, path in re.findall(r'\.file\s+(\d+)\s+"([^"]*)"', text)
        }
        self.parameters: dict[str, tuple[int, int]] = {}
        pointers, offset = [], 0
        for parameter in _split(header):
            found = re.search(r"\.param\s+\.(\w+)(.*?)([\w$]+)$", parameter, re.S)
            if found is None:
                raise PTXError(f"The parameter {parameter!r} is not known.")
            size = bits(found[1]) // 8
            offset = -(-offset // size) * size
            self.parameters[found[3]] = (offset, size)
            offset += size
            if ".ptr" in found[2]:
                pointers.append(found[3])
        self.pointers = tuple(pointers)
        self.registers: dict[str, Register] = {}
        self.shared: dict[str, int] = {}
        self._declare_shared(text)

    def _declare_shared(self, text: str) -> None:
        place = SHARED_BASE
        dynamic = []
        for align, name, size in re.findall(
            r"\.shared\s+\.align\s+(\d+)\s+\.b8\s+([\w$]+)\[(\d*)\]", text
        ):
            if size:
                place = -(-place // int(align)) * int(align)
                self.shared[name] = place
                place += int(size)
            else:
                dynamic.append((name, int(align)))
        for name, align in dynamic:
            place = self.shared[name] = -(-place // align) * align
        self.static_shared = place - SHARED_BASE

    def operand(self, text: str, used: set[int]) -> Operand:
        if text.startswith("{"):
            return Vector(tuple(self.operand(part, used) for part in _split(text[1:-1])))
        if text.startswith("["):
            inner = text[1:-1].strip()
            found = re.fullmatch(r"(\S+?)\s*\+\s*(-?\w+)", inner)
            base = self.operand(found[1] if found else inner, used)
            if not isinstance(base, (Register, Symbol, Immediate)):
                raise PTXError(f"The address {text} is not known.")
            return Address(base, int(found[2], 0) if found else 0)
        if text.startswith("%"):
            if _SPECIAL.fullmatch(text):
                return Special(text[1:])
            register = self.registers.get(text)
            if register is None:
                raise PTXError(f"The register {text} is not declared.")
            used.add(register.slot)
            return register
        if re.fullmatch(r"0[fFdD][0-9A-Fa-f]{8,16}", text):
            return Immediate(int(text[2:], 16), True)
        if _NUMBER.fullmatch(text):
            return Immediate(int(text.rstrip("U"), 0))
        return Symbol(text)

    def declare_registers(self, line: str) -> None:
        kind, names = re.fullmatch(r"\.reg\s+\.(\w+)\s+(.*)", line, re.S).groups()  # type: ignore[union-attr]
        for name in _split(names):
            found = re.fullmatch(r"(%\w+)<(\d+)>", name)
            all_names = [f"{found[1]}{n}" for n in range(int(found[2]))] if found else [name]
            for one in all_names:
                self.registers[one] = Register(len(self.registers), one, bits(kind))

    def program(self) -> Program:
        instructions: list[Instruction] = []
        labels: dict[str, int] = {}
        source = ""
        # a statement ends with ";", a .loc and a label with its line
        for line in re.split(r";|\n(?=\s*\.loc)|(?<=:)\s*\n", self.body):
            line = line.strip()
            while line.startswith(".loc"):
                head, _, line = line.partition("\n")
                numbers = head.split()
                source = f"{self.files.get(numbers[1], '?')}:{numbers[2]}"
                line = line.strip()
            while found := re.match(r"(\$?[\w$]+):\s*", line):
                labels[found[1]] = len(instructions)
                line = line[found.end() :]
            if line.startswith(("{", "}")):
                line = line[1:].strip()
            if not line or line.startswith((".section", ".pragma", "}")):
                continue
            if line.startswith(".reg"):
                self.declare_registers(line)
            elif not line.startswith("."):
                instructions.append(self.instruction(len(instructions), line, source))
        return Program(
            self.name,
            self.target,
            self.parameters,
            self.pointers,
            tuple(instructions),
            labels,
            len(self.registers),
            self.shared,
            self.static_shared,
        )

    def instruction(self, number: int, line: str, source: str) -> Instruction:
        text = " ".join(line.split())
        used: set[int] = set()
        found = re.fullmatch(r"(?:@(!?)(%\w+)\s+)?([a-z]\w*)((?:[.:]+\w+)*)\s*(.*)", text)
        if found is None:
            raise PTXError(f"The instruction {text!r} is not known.")
        negated, predicate, name, modifiers, rest = found.groups()
        register = self.operand(predicate, used) if predicate else None
        # the predicate that shfl also writes, as in %r1|%p1
        operands = tuple(
            self.operand(part, used) for part in _split(rest.replace("|", ", ") if rest else "")
        )
        return Instruction(
            number,
            name,
            tuple(word for word in re.split(r"[.:]+", modifiers) if word),
            operands,
            register if isinstance(register, Register) else None,
            bool(negated),
            source,
            text,
            frozenset(used),
        )


@lru_cache(maxsize=256)
def parse(text: str) -> Program:
    """Read the PTX of one kernel.

    Raises:
        PTXError: the text has no kernel, or a form that is not known, which the message names.
    """
    return _Parser(text).program()
