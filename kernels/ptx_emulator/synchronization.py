"""Asynchronous copies, barriers and fences."""

import numpy as np

from ptx_emulator.accesses import address_of, place, read_global, report_shared
from ptx_emulator.formats import Array
from ptx_emulator.machine import Builder, Machine, Step
from ptx_emulator.parser import Instruction, PTXError


def _copy(instruction: Instruction) -> Step:
    words = instruction.modifiers
    if words[:2] == ("async", "commit_group"):
        return lambda m: m.copies.append([])
    if words[:2] == ("async", "wait_group"):
        keep = instruction.operands[0]
        return lambda m: _wait_copies(m, int(m.get(keep, "u32")[0, 0]))
    if words[:2] == ("async", "wait_all"):
        return lambda m: _wait_copies(m, -1)
    if words[0] != "async" or "bulk" in words or "mbarrier" in words:
        raise PTXError(f"The emulator does not know {instruction.text!r}.")
    target, source, count, *rest = instruction.operands
    if "cache_hint" in words:
        rest.pop()
    # a fourth operand: how many bytes to read, the rest of `count` being zeros
    actual = rest[0] if rest else None

    def step(m: Machine) -> None:
        size = int(m.get(count, "u32")[0, 0])
        lanes = m.lanes()
        addresses = m.flat(address_of(m, source, "u64"), lanes)
        values: Array = np.zeros((len(addresses), size), np.uint8)
        read = np.full(len(addresses), size)
        if actual is not None:
            read = m.flat(m.get(actual, "u32"), lanes).astype(np.int64)
        numbers = np.arange(len(addresses)) if lanes is None else lanes
        for amount in np.unique(read[read > 0]):
            some = np.flatnonzero(read == amount)
            values[some, :amount] = read_global(m, addresses[some], numbers[some], int(amount))
        access, places, _ = place(m, address_of(m, target, "u32"), size)
        m.traffic.note_shared(m, access, places)
        if access.rows is None:
            values = values.reshape(len(m.blocks), -1, size)
        report_shared(m, access, m.shared.write(access, values))
        m.shared.begin(access, "arriving")
        m.copies[-1].append(access)

    return step


def _wait_copies(m: Machine, keep: int) -> None:
    """Wait until at most `keep` committed groups are under way; -1: for open copies too."""
    last = len(m.copies) - 1 - max(keep, 0) + (keep < 0)
    for group in m.copies[: max(last, 0)]:
        for access in group:
            m.shared.end(access, "arriving")
    m.copies = m.copies[max(last, 0) :] or [[]]


def _barrier(instruction: Instruction) -> Step:
    if "warp" in instruction.modifiers:
        return lambda m: None
    if "arrive" in instruction.modifiers or "red" in instruction.modifiers:
        raise PTXError(f"The emulator does not know {instruction.text!r}.")
    count = instruction.operands[1] if len(instruction.operands) > 1 else None

    def step(m: Machine) -> None:
        if count is not None and int(m.get(count, "u32")[0, 0]) != m.threads:
            raise PTXError(f"The emulator knows no barrier of a part: {instruction.text!r}.")
        if m.mask is not None:
            lanes = np.broadcast_to(m.mask, (len(m.blocks), m.threads))
            block, thread = np.argwhere(~lanes)[0]
            m.report("barrier", int(thread), int(block), "a thread that is elsewhere")
        m.shared.barrier()

    return step


def _fence(instruction: Instruction) -> Step:
    if "proxy" not in instruction.modifiers:
        return lambda m: None  # memory is in order here

    def step(m: Machine) -> None:
        m.shared.fence(np.unique(m.warps))

    return step


BUILDERS: dict[str, Builder] = {
    "cp": _copy,
    "bar": _barrier,
    "barrier": _barrier,
    "fence": _fence,
    "membar": lambda i: lambda m: None,
    "griddepcontrol": lambda i: lambda m: None,
}
