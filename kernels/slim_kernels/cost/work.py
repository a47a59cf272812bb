"""What a launch has to do, counted in the emulator, and what it would have to do at other sizes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slim_kernels.cost.binary import Binary, assemble
from slim_kernels.cost.pipes import PIPES, least_wavefronts, product, ptx_pipe, shape
from slim_kernels.cost.regions import clocks_alone, executions, find_regions

if TYPE_CHECKING:
    from ptx_emulator.launch import Report


@dataclass(frozen=True)
class Loop:
    """The body of a loop."""

    instructions: dict[str, int]
    """By pipe, of one iteration of one warp."""
    shapes: dict[str, int]
    """Matrix instructions of one iteration of one warp (wgmma: of its warpgroup), by shape."""
    iterations: float
    """Of a warp."""


@dataclass(frozen=True)
class Work:
    """One launch of a kernel."""

    kernel: str
    warps: int
    """Of a program."""
    shared: int
    """Bytes of a program."""
    registers: int
    """Of a thread."""
    spilled: int
    counted_in: str
    """"SASS" or "PTX": where instructions were counted."""
    loops: tuple[Loop, ...]
    amounts: dict[str, float]
    """Of the whole launch: programs; each of PIPES and issue: instructions of warps; tensor UNIT
    TYPE: floating-point operations; shared: wavefronts and, in the same unit, what wgmma reads;
    wavefronts, least wavefronts: of instructions that load and store, and what they would be if
    whole warps met no bank conflict; requests, sectors: of global memory; fetched, touched: bytes
    of sectors loaded and stored, once a program and once a launch; alone: clocks of each program
    with an SM to itself.
    """


def count_work(report: Report, kernel: Any) -> Work:
    """The work of one launch that the emulator ran with `detailed`."""
    binary, traffic = assemble(kernel), report.traffic
    regions = find_regions(report)
    warps = report.threads // 32
    static = [Counter(ptx_pipe(i) for i in region.instructions) for region in regions]
    runs = [executions(report, region) for region in regions]
    sass = match_regions(binary, static)
    amounts: defaultdict[str, float] = defaultdict(float)
    for pipes, times in zip(sass or static, runs, strict=True):
        for pipe in PIPES:
            amounts[pipe] += pipes[pipe] * times
    amounts["issue"] = sum(amounts[pipe] for pipe in PIPES)
    amounts["programs"] = math.prod(report.grid)
    for instruction in report.program.instructions:
        times = int(traffic.executed[instruction.number])
        found = product(instruction)
        if found is not None:
            unit, kind, operations, read = found
            times = times // 4 if unit == "wgmma" else times
            amounts[f"tensor {unit} {kind}"] += times * operations
            amounts["shared"] += times * read / 128
        elif traffic.sectors[instruction.number]:
            amounts["requests"] += times
        if traffic.wavefronts[instruction.number]:
            amounts["least wavefronts"] += times * least_wavefronts(instruction)
    amounts["wavefronts"] = int(traffic.wavefronts.sum())
    amounts["shared"] += amounts["wavefronts"]
    amounts["sectors"] = int(traffic.sectors.sum())
    amounts["fetched"], amounts["touched"] = 32 * len(traffic.fetched), 32 * len(traffic.touched)
    in_flight = max(kernel.metadata.num_stages - 1, 1)
    for region, pipes, times in zip(regions, sass or static, runs, strict=True):
        # a scheduler issues one instruction a clock, to its share of the warps
        issue = pipes.total() * max(warps / 4, 1)
        clocks = max(clocks_alone(report, region, in_flight), issue)
        amounts["alone"] += times / warps * clocks
    loops = tuple(
        Loop(
            dict(pipes),
            dict(Counter(filter(None, map(shape, region.instructions)))),
            times / warps / amounts["programs"],
        )
        for region, pipes, times in zip(regions, sass or static, runs, strict=True)
        if region.is_loop
    )
    return Work(
        kernel.metadata.name,
        warps,
        kernel.metadata.shared,
        binary.registers,
        binary.spilled,
        "SASS" if sass else "PTX",
        loops,
        amounts,
    )


def match_regions(binary: Binary, ptx: Sequence[Counter[str]]) -> list[Counter[str]] | None:
    """The binary's instructions of each region of the PTX (outside first); None where its loops
    are others, for instance unrolled.
    """
    if len(binary.loops) != len(ptx) - 1:
        return None
    regions = [binary.outside, *binary.loops]
    # matrix instructions are translated one by one: another number is another loop
    if any(a["tensor"] != b["tensor"] for a, b in zip(regions, ptx, strict=True)):
        return None
    return regions


def extrapolate(
    corners: Mapping[tuple[int, ...], Mapping[str, float]], sizes: Sequence[int]
) -> dict[str, float]:
    """Amounts at `sizes`, from those at all combinations of two values of each size: linear in each
    size, with the products of several.
    """
    axes = [sorted({corner[axis] for corner in corners}) for axis in range(len(sizes))]
    amounts: defaultdict[str, float] = defaultdict(float)
    for corner, found in corners.items():
        portion = 1.0
        for (low, high), at, size in zip(axes, corner, sizes, strict=True):
            along = (size - low) / (high - low)
            portion *= along if at == high else 1 - along
        for name, value in found.items():
            amounts[name] += portion * value
    return dict(amounts)
