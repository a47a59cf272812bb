"""From the work of a launch to its time on a device."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from slim_kernels.cost.devices import (
    COPY_SHARE,
    LAUNCH_MICROSECONDS,
    PRODUCT_SHARE,
    REGISTERS,
    RESERVED_SHARED,
    SCHEDULERS,
    Device,
)
from slim_kernels.cost.work import Work


@dataclass(frozen=True)
class Prediction:
    """What the model says of one launch."""

    microseconds: float
    bound: str
    """Which limit it is."""
    limits: dict[str, float]
    """Microseconds by limit, the launch itself left out."""
    resident: int
    """Programs that an SM holds at once."""


def resident_programs(work: Work, device: Device) -> int:
    """How many programs of a launch an SM holds at once; 0: it does not fit at all."""
    # registers are given to warps in units of 256
    of_warp = -(-max(work.registers, 1) * 32 // 256) * 256
    return min(
        REGISTERS // of_warp // work.warps,
        device.shared // (work.shared + RESERVED_SHARED),
        device.warps // work.warps,
        device.blocks,
    )


def predict(work: Work, device: Device) -> Prediction:
    """The slowest of a launch's limits on a device.

    Raises: ValueError where a program needs more than an SM has.
    """
    resident, amounts = resident_programs(work, device), defaultdict(float, work.amounts)
    if resident < 1:
        raise ValueError(f"{work.kernel} does not fit an SM of {device.name}")
    programs = max(amounts["programs"], 1e-9)
    busiest = math.ceil(programs / device.sms - 1e-6)
    tensor = 0.0
    for name, operations in work.amounts.items():
        if name.startswith("tensor "):
            _, unit, kind = name.split()
            share = device.mma_share if unit == "mma" else 1.0
            tensor += operations / (device.tensor[kind] * share)
    clocks = {
        "tensor": tensor / PRODUCT_SHARE,
        "issue": amounts["issue"] / SCHEDULERS,
        "fma": amounts["fma"] * 32 / device.fma,
        "alu": amounts["alu"] * 32 / device.alu,
        "sfu": amounts["sfu"] * 32 / device.sfu,
        "load/store": amounts["load_store"] * 32 / device.load_store,
        "shared": amounts["shared"],  # a wavefront of 128 bytes a clock
    }
    # microseconds: clocks / GHz / 1000
    limits = {name: busiest * total / programs / device.ghz / 1e3 for name, total in clocks.items()}
    limits["L2"] = amounts["fetched"] / device.l2 / 1e6
    limits["DRAM"] = amounts["touched"] / device.dram / COPY_SHARE / 1e6
    waves = math.ceil(busiest / resident)
    limits["latency"] = waves * amounts["alone"] / programs / device.ghz / 1e3
    bound = max(limits, key=lambda name: limits[name])
    return Prediction(limits[bound] + LAUNCH_MICROSECONDS, bound, limits, resident)
