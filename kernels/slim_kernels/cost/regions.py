"""Regions of a PTX program: bodies of loops and what is outside, and how long one warp alone needs
for each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slim_kernels.cost.pipes import product, ptx_pipe

if TYPE_CHECKING:
    from ptx_emulator.launch import Report
    from ptx_emulator.parser import Instruction

# Clocks from issue to result: orders of magnitude that microbenchmarks of 8.0 to 9.0 agree on.
GLOBAL, SHARED, SHUFFLE, SPECIAL, MATRIX, PLAIN, BARRIER = 500, 30, 24, 20, 33, 5, 20


@dataclass(frozen=True)
class Region:
    """Instructions of a loop's body that are in no inner loop, or those outside all loops."""

    instructions: tuple[Instruction, ...]
    is_loop: bool


def find_loops(back: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Where each loop begins and ends, in order, from branches back (target, place of the branch).
    Branches that overlap without one inside the other are of one loop, which is entered twice.
    """
    spans: list[tuple[int, int]] = []
    for begin, end in sorted(back):
        for number, (first, last) in enumerate(spans):
            if begin == first or first < begin <= last < end:
                spans[number] = (first, max(last, end))
                break
        else:
            spans.append((begin, end))
    return dict(spans)


def find_regions(report: Report) -> list[Region]:
    """What is outside all loops, then the loops in the order in which they begin. A branch back
    that no warp came to is none of a loop: it returns from a path that was set aside.
    """
    program, back = report.program, []
    for number, instruction in enumerate(program.instructions):
        label = instruction.operands[-1] if instruction.name == "bra" else None
        begin = program.labels.get(getattr(label, "name", ""), number + 1)
        if begin <= number and report.traffic.executed[number]:
            back.append((begin, number))
    spans = find_loops(back)
    members: dict[int, list[Instruction]] = {-1: [], **{begin: [] for begin in spans}}
    for number, instruction in enumerate(program.instructions):
        around = [begin for begin, end in spans.items() if begin <= number <= end]
        members[max(around, default=-1)].append(instruction)
    return [Region(tuple(found), begin >= 0) for begin, found in members.items()]


def executions(report: Report, region: Region) -> float:
    """How often warps ran the region, all warps together: the mean over those of its instructions
    that any warp ran.
    """
    times = [int(report.traffic.executed[i.number]) for i in region.instructions]
    return sum(times) / max(sum(map(bool, times)), 1)


def clocks_alone(report: Report, region: Region, in_flight: int) -> float:
    """Clocks of one warp through the region with its SM to itself, each instruction as soon as its
    operands are there (the assembler's order hides what can be hidden), all waiting at barriers.

    in_flight: how many iterations' asynchronous copies are under way at once.
    """
    executed = report.traffic.executed
    most = max((int(executed[i.number]) for i in region.instructions), default=0)
    ready: dict[int, float] = {}
    start = last = products = 0.0
    copies = False
    for instruction in region.instructions:
        if 2 * int(executed[instruction.number]) < most:  # a path that few warps take
            continue
        begin = max([start, *(ready.get(slot, 0.0) for slot in instruction.registers)])
        copies |= instruction.name == "cp"
        words = instruction.modifiers
        if instruction.name in ("bar", "barrier") and "warp" not in words:
            start = max(last, begin) + BARRIER
        elif instruction.name == "wgmma" and words[0] == "mma_async":
            # one after the other in the tensor cores, without waiting for sums
            found = product(instruction)
            operations = found[2] if found else 0
            products = max(products, start) + operations / 4096
            continue
        elif instruction.name == "wgmma" and words[0] == "wait_group":
            start = max(start, products + (MATRIX if products else 0))
        else:
            end = begin + _latency(instruction)
            for slot in instruction.registers:
                ready[slot] = max(ready.get(slot, 0.0), end if _writes(instruction, slot) else 0)
            # what is stored or copied asynchronously is not waited for
            last = max(last, end if instruction.name not in ("st", "cp") else begin)
    path = max(start, last, products)
    return max(path, GLOBAL / in_flight if copies and region.is_loop else 0)


def _writes(instruction: Instruction, slot: int) -> bool:
    result = instruction.operands[0] if instruction.operands else None
    parts = getattr(result, "parts", (result,))
    return any(getattr(part, "slot", None) == slot for part in parts)


def _latency(instruction: Instruction) -> int:
    name, words = instruction.name, instruction.modifiers
    if name in ("shfl", "redux"):
        return SHUFFLE
    if name in ("ldmatrix", "stmatrix") or (name in ("ld", "st") and "shared" in words):
        return SHARED
    if name in ("ld", "atom"):
        return PLAIN if "param" in words else GLOBAL
    if name == "mma":
        return MATRIX
    return SPECIAL if ptx_pipe(instruction) == "sfu" else PLAIN
