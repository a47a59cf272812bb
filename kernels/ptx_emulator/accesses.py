"""How the active threads of a machine touch global and shared memory, with all checks."""

import numpy as np

from ptx_emulator.formats import Array
from ptx_emulator.machine import Machine
from ptx_emulator.parser import SHARED_BASE, Address, Operand, PTXError, bits
from ptx_emulator.shared_memory import Access


def address_of(m: Machine, operand: Operand, kind: str) -> Array:
    """[base + offset] in bytes, not yet spread over the threads."""
    if not isinstance(operand, Address):
        raise PTXError(f"{operand} is no address.")
    base = m.get(operand.base, kind)
    return base + base.dtype.type(operand.offset & (2 ** bits(kind) - 1))


def read_global(m: Machine, addresses: Array, lanes: Array | None, size: int) -> Array:
    """(N, size) bytes at (N,) addresses of these lanes; zeros where a finding was noted."""
    values = np.zeros((len(addresses), size), np.uint8)
    for number, chosen in global_parts(m, addresses, lanes, size, write=False):
        if chosen is None:
            return m.memory.load(number, addresses, size)
        values[chosen] = m.memory.load(number, addresses[chosen], size)
    return values


def global_parts(
    m: Machine, addresses: Array, lanes: Array | None, size: int, write: bool
) -> list[tuple[int, Array | None]]:
    """The tensors that hold these accesses, each with the accesses it holds (None: all), after
    noting what is wrong with them.
    """
    if not len(addresses):
        return []
    m.traffic.note_global(m, addresses, lanes, size)
    crooked = addresses % np.uint64(size) != 0
    if crooked.any():
        report_global(m, "misaligned", addresses, lanes, crooked)
    located = m.memory.locate(addresses, size)
    outside = located < 0
    if outside.any():
        report_global(m, "out of bounds", addresses, lanes, outside)
    found: list[tuple[int, Array | None]] = []
    for number in np.unique(located):
        if number < 0:
            continue
        chosen = np.flatnonzero(located == number)
        part = addresses if len(chosen) == len(addresses) else addresses[chosen]
        owners = m.owners if lanes is None else m.owners[lanes]
        mine = owners if part is addresses else owners[chosen]
        clash = m.memory.conflicts(int(number), part, size, mine, write)
        if clash is not None and clash.any():
            report_global(m, "blocks", addresses, lanes, chosen[clash])
        found.append((int(number), None if part is addresses else chosen))
    return found


def report_global(m: Machine, kind: str, addresses: Array, lanes: Array | None, bad: Array) -> None:
    first = int(np.flatnonzero(bad)[0]) if bad.dtype == bool else int(bad[0])
    lane = first if lanes is None else int(lanes[first])
    block, place = divmod(lane, m.threads)
    m.report(kind, place, block, m.memory.describe(int(addresses[first])))


def place(m: Machine, address: Array, size: int) -> tuple[Access, Array | None, Array]:
    """The access of the active threads at `address`, its lanes (None: all threads of all blocks),
    and which of them are inside shared memory.
    """
    if m.mask is None and len(address) == 1:
        offsets = np.broadcast_to(address, (1, m.threads))[0].astype(np.int64) - SHARED_BASE
        rows, lanes, warps = None, None, m.warps
    else:
        lanes = m.lanes()
        offsets = m.flat(address, lanes).astype(np.int64) - SHARED_BASE
        numbers = np.arange(len(m.blocks) * m.threads) if lanes is None else lanes
        rows, warps = numbers // m.threads, m.warps[numbers % m.threads]
    inside = (offsets >= 0) & (offsets + size <= m.shared.size)
    crooked = offsets % size != 0
    if crooked.any() or not inside.all():
        for kind, bad in (("misaligned", crooked), ("shared out of bounds", ~inside)):
            if bad.any():
                report_shared(m, Access(rows, offsets, size, warps), {kind: bad})
        offsets = np.where(inside & ~crooked, offsets, 0)
    return Access(rows, offsets, size, warps), lanes, inside


def report_shared(m: Machine, access: Access, wrong: dict[str, Array]) -> None:
    """Note findings of an access: kind -> bools, of which the last axis is its lanes."""
    for kind, bad in wrong.items():
        at = np.argwhere(bad)[0]
        lane = int(at[-1])
        row = (
            int(access.rows[lane]) if access.rows is not None else int(at[0]) if len(at) > 1 else 0
        )
        warp = int(access.warps[lane])
        m.report(kind, 32 * warp, row, f"shared byte {int(access.offsets[lane])}")


def read_shared(m: Machine, address: Array, size: int) -> Array:
    """(1 or blocks, threads, size) bytes at each thread's address."""
    access, lanes, _ = place(m, address, size)
    m.traffic.note_shared(m, access, lanes)
    report_shared(m, access, m.shared.note_read(access))
    values = m.shared.load(access)
    if access.rows is None:
        return values
    whole = np.zeros((len(m.blocks) * m.threads, size), np.uint8)
    whole[slice(None) if lanes is None else lanes] = values
    return whole.reshape(len(m.blocks), m.threads, size)


def write_shared(m: Machine, address: Array, columns: list[Array]) -> None:
    """Write registers side by side at each thread's address."""
    size = sum(column.dtype.itemsize for column in columns)
    access, lanes, inside = place(m, address, size)
    m.traffic.note_shared(m, access, lanes)
    if not inside.all():
        return
    shape = (len(m.blocks), m.threads)
    values = np.stack([np.broadcast_to(column, shape) for column in columns], -1).view(np.uint8)
    if access.rows is not None:
        values = values.reshape(-1, size)
        values = values if lanes is None else values[lanes]
    report_shared(m, access, m.shared.write(access, values))
