"""The machine: blocks of a launch that run in step, each register an array over their threads.

A register's array is (1, 1), (1, threads), (blocks, 1) or (blocks, threads): what does not depend
on the block or the thread is computed once. Arrays are never changed in place, so that a copy costs
nothing. Where a branch parts whole blocks, the machine parts too; where it parts the threads of a
block, the lowest program counter runs first, so that threads meet again where their paths do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ptx_emulator.findings import Findings
from ptx_emulator.formats import UNSIGNED, Array, as_bits, constant, view
from ptx_emulator.global_memory import GlobalMemory
from ptx_emulator.parser import (
    Immediate,
    Instruction,
    Operand,
    Program,
    PTXError,
    Register,
    Special,
    Symbol,
)
from ptx_emulator.shared_memory import Access, SharedMemory
from ptx_emulator.traffic import Traffic


@dataclass(frozen=True)
class Job:
    """What all blocks of a launch share."""

    program: Program
    steps: Sequence[Step | None]
    """Each instruction as a function of the machine; None: a branch."""
    grid: tuple[int, int, int]
    threads: int
    """Of a block, whole warps."""
    arguments: bytes
    memory: GlobalMemory
    shared: int
    """Bytes of a block's shared memory."""
    findings: Findings
    traffic: Traffic


class Machine:
    """Some blocks of a launch, by their numbers within the grid."""

    def __init__(self, job: Job, blocks: Array) -> None:
        self.job, self.blocks = job, blocks
        self.program, self.threads = job.program, job.threads
        self.memory, self.traffic = job.memory, job.traffic
        self.registers: list[Array | None] = [None] * job.program.registers
        self.mask: Array | None = None  # which threads are active; None: all
        self.waiting: dict[int, Array | None] = {}  # program counter -> threads that wait there
        self.shared = SharedMemory(len(blocks), job.shared, job.program.grain)
        self.copies: list[list[Access]] = [[]]  # groups of cp.async, the open one last
        self.products: list[list[Access]] = [[]]  # groups of wgmma, the open one last
        self.busy: dict[int, int] = {}  # register that wgmma still uses -> number of its group
        self.committed = 0  # groups of wgmma
        self.unfenced: set[int] = set()  # registers used since the last wgmma.fence
        self.pc = 0
        thread = np.arange(self.threads)[None]
        self.warps = thread[0] // 32
        self.owners = np.repeat(blocks, self.threads).astype(np.int32)  # each thread's block
        special = {"tid.x": thread, "laneid": thread % 32, "warpid": thread // 32}
        special |= {"ntid.x": np.full((1, 1), self.threads)}
        for axis in "yz":
            special |= {f"tid.{axis}": thread[:, :1], f"ntid.{axis}": thread[:, :1] + 1}
        for axis, size in zip("xyz", job.grid, strict=True):
            special[f"nctaid.{axis}"] = np.full((1, 1), size)
        self._special = {name: value.astype(np.uint32) for name, value in special.items()}

    # --- registers ---

    def get(self, operand: Operand, kind: str) -> Array:
        """An operand read as a PTX type; bfloat16 and packed pairs as their bits."""
        if type(operand) is Register:
            value = self.registers[operand.slot]
            if value is None:  # undefined in the program: its value does not matter
                value = np.zeros((1, 1), UNSIGNED[operand.bits])
                self.registers[operand.slot] = value
            return view(value, kind)
        if type(operand) is Immediate:
            return constant(operand, kind)
        if type(operand) is Special:
            return view(self._hardware(operand.name), kind)
        if type(operand) is Symbol and operand.name in self.program.shared:
            address = self.program.shared[operand.name]
            return view(np.full((1, 1), address, np.uint64), kind)
        raise PTXError(f"The operand {operand} is not known.")

    def _hardware(self, name: str) -> Array:
        if name.startswith("ctaid."):
            place = self._places(self.blocks)["xyz".index(name[-1])]
            return place[:, None].astype(np.uint32)
        if name not in self._special:
            raise PTXError(f"The emulator does not know %{name}.")
        return self._special[name]

    def put(self, operand: Operand, value: Array) -> None:
        """Write the active threads' results."""
        if type(operand) is not Register:
            if isinstance(operand, Symbol) and operand.name == "_":
                return
            raise PTXError(f"{operand} can't be written.")
        slot, width = operand.slot, operand.bits
        if width == 1:
            value = np.asarray(value, bool)
        elif 8 * value.dtype.itemsize != width:
            if 8 * value.dtype.itemsize > width:
                raise PTXError(f"A result of {value.dtype} does not fit {operand.name}.")
            value = as_bits(value, width)
        if self.mask is not None:
            old = self.registers[slot]
            if old is None:
                old = np.zeros((1, 1), UNSIGNED[width])
            if width > 1:
                value, old = as_bits(value, width), as_bits(old, width)
            value = np.where(self.mask, value, old)
        self.registers[slot] = value

    # --- lanes ---

    def lanes(self) -> Array | None:
        """(N,) the active threads, numbered over all blocks; None: all."""
        if self.mask is None:
            return None
        shape = (len(self.blocks), self.threads)
        return np.flatnonzero(np.broadcast_to(self.mask, shape))

    def flat(self, value: Array, lanes: Array | None) -> Array:
        """(N,) a register's values of these lanes."""
        shape = (len(self.blocks), self.threads)
        whole = np.broadcast_to(value, shape).reshape(-1)
        return whole if lanes is None else whole[lanes]

    def spread(self, values: Array, lanes: Array | None) -> Array:
        """(blocks, threads) from the values (N,) of these lanes."""
        shape = (len(self.blocks), self.threads)
        if lanes is None:
            return values.reshape(shape)
        whole = np.zeros(shape[0] * shape[1], values.dtype)
        whole[lanes] = values
        return whole.reshape(shape)

    def report(self, kind: str, place: int, block: int, address: str) -> None:
        """Note a finding of the thread `place` of a block of this machine."""
        x, y, z = (int(axis) for axis in self._places(self.blocks[block]))
        instruction, warp = self.program.instructions[self.pc], int(self.warps[place])
        self.job.findings.add(kind, instruction, (x, y, z), warp, address)

    def _places(self, blocks: Array) -> tuple[Array, Array, Array]:
        """Blocks' places within the grid, by their numbers."""
        x, y, _ = self.job.grid
        return blocks % x, blocks // x % y, blocks // (x * y)

    # --- control ---

    def part(self, chosen: Array, pc: int) -> Machine:
        """A machine of the blocks that are `chosen` (a bool each), to go on at `pc`."""
        other = object.__new__(Machine)
        other.__dict__.update(self.__dict__)
        count = len(self.blocks)
        other.blocks = self.blocks[chosen]
        other.owners = np.repeat(other.blocks, self.threads).astype(np.int32)
        other.registers = [
            r if r is None or len(r) != count or count == 1 else r[chosen] for r in self.registers
        ]
        other.waiting = {}
        other.shared = self.shared.part(chosen)
        other.copies = [[a.part(chosen) for a in group] for group in self.copies]
        other.products = [[a.part(chosen) for a in group] for group in self.products]
        other.busy, other.unfenced = dict(self.busy), set(self.unfenced)
        other.pc = pc
        return other

    def run(self) -> list[Machine]:
        """Run to the end. Returns the machines into which a branch parted this one, if it did."""
        code, instructions = self.job.steps, self.program.instructions
        warps = len(self.blocks) * (self.threads // 32)
        while True:
            if self.waiting and self.pc >= min(self.waiting):
                self._meet()
            instruction = instructions[self.pc]
            step = code[self.pc]
            predicate = None
            if instruction.predicate is not None:
                predicate = self.get(instruction.predicate, "pred")
                if instruction.negated:
                    predicate = ~predicate
            active = warps if self.mask is None else self._active_warps()
            self.traffic.executed[self.pc] += active
            if step is None:
                parts = self._branch(instruction, predicate)
                if parts is not None:
                    return parts
                continue
            if predicate is None or predicate.all():
                step(self)
            elif predicate.any():
                before = self.mask
                self.mask = predicate if before is None else predicate & before
                if self.mask.any():
                    step(self)
                self.mask = before
            self.pc += 1

    def _active_warps(self) -> int:
        shape = (len(self.blocks), self.threads // 32, 32)
        whole = np.broadcast_to(self.mask, (*shape[:1], self.threads))  # type: ignore[arg-type]
        return int(whole.reshape(shape).any(-1).sum())

    def _meet(self) -> None:
        """Go on at the lowest program counter, with all threads that wait there."""
        pc = min(self.waiting)
        other = self.waiting.pop(pc)
        if pc < self.pc:
            self.waiting[self.pc] = self.mask
            self.pc, self.mask = pc, other
        else:
            self.mask = None if self.mask is None or other is None else self.mask | other
        if self.mask is not None and self.mask.all():
            self.mask = None

    def _branch(self, instruction: Instruction, predicate: Array | None) -> list[Machine] | None:
        """Take a branch or return. Returns machines to run instead of this one, or None to go
        on.
        """
        target = -1
        if instruction.name == "bra":
            label = instruction.operands[-1]
            assert isinstance(label, Symbol)
            target = self.program.labels[label.name]
        if predicate is None or predicate.all():
            if target < 0:
                return self._leave()
            self.pc = target
            return None
        if not predicate.any():
            self.pc += 1
            return None
        if self.mask is None and len(predicate) > 1:
            taken = np.asarray(predicate.all(1))
            none = ~np.asarray(predicate.any(1))
            if (taken | none).all():
                parts = [self.part(none, self.pc + 1)]
                return parts if target < 0 else [*parts, self.part(taken, target)]
            for blocks in (taken, none):
                if blocks.any():
                    return [self.part(blocks, self.pc), self.part(~blocks, self.pc)]
        shape = (len(self.blocks), self.threads)
        active = np.broadcast_to(np.True_ if self.mask is None else self.mask, shape)
        jump, stay = active & predicate, active & ~predicate
        if target >= 0 and jump.any():
            self._wait(target, jump)
        if not stay.any():
            return self._leave()
        self.mask = stay
        self.pc += 1
        return None

    def _wait(self, pc: int, mask: Array | None) -> None:
        other = self.waiting.get(pc, False)
        self.waiting[pc] = None if mask is None or other is None else mask | other

    def _leave(self) -> list[Machine] | None:
        """The active threads are done or wait: go on with those that wait, or end."""
        if not self.waiting:
            return []
        self.pc = min(self.waiting)
        self.mask = self.waiting.pop(self.pc)
        if self.mask is not None and self.mask.all():
            self.mask = None
        return None


Step = Callable[[Machine], None]
Builder = Callable[[Instruction], Step]
# a function of operands' values, and the PTX types that these are read as
Rule = tuple[Callable[..., Array], Sequence[str]]


def of_registers(rule: Callable[[Instruction], Rule]) -> Builder:
    """Instructions that only read and write registers, the result first."""

    def build(instruction: Instruction) -> Step:
        function, kinds = rule(instruction)
        result, *sources = instruction.operands
        return lambda m: m.put(result, function(*map(m.get, sources, kinds)))

    return build
