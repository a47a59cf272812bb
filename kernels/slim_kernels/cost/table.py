"""Predictions of whole passes, and the lines that show them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slim_kernels.cost.counting import Pass
from slim_kernels.cost.devices import COPY_SHARE, LAUNCH_MICROSECONDS, PRODUCT_SHARE, Device
from slim_kernels.cost.model import predict
from slim_kernels.cost.problems import Problem
from slim_kernels.cost.work import Work

HEAD = (
    f"{'op, pass, launch':<48}{'regs':>5}{'shared':>8}{'/SM':>4} {'bound by':<11}{'next':<17}"
    f"{'us':>10}{'floor':>9}{'ceiling':>9}{'measured':>10}"
)


def predict_pass(problem: Problem, name: str, found: Pass, device: Device) -> dict[str, Any]:
    """A pass of an op on a device, plain data; times in microseconds."""
    launches, total = [], 0.0
    for work in found.launches:
        prediction = predict(work, device)
        total += prediction.microseconds
        launches.append(
            {
                "kernel": work.kernel,
                "programs": round(work.amounts["programs"]),
                "registers": work.registers,
                "spilled": work.spilled,
                "shared": work.shared,
                "resident": prediction.resident,
                "counted_in": work.counted_in,
                "bound": prediction.bound,
                "microseconds": prediction.microseconds,
                "limits": prediction.limits,
            }
        )
    ceiling, rate = tensor_ceiling(device), COPY_SHARE * device.dram * 1e12
    amounts = defaultdict(float, found.torch)
    products = max(amounts["products"] / ceiling, amounts["product bytes"] / rate)
    beside = 1e6 * (products + amounts["bytes"] / rate) + LAUNCH_MICROSECONDS * amounts["calls"]
    operations, size = problem.floors[name]
    total += beside
    return {
        "device": device.name,
        "op": problem.op,
        "case": problem.case,
        "kind": problem.kind,
        "pass": name,
        "microseconds": total,
        "floor": 1e6 * max(operations / ceiling, size / rate),
        "tensor_share": 1e6 * operations / ceiling / total if total else 0.0,
        "calls_a_step": problem.calls[name],
        "torch": beside,
        "launches": launches,
    }


def tensor_ceiling(device: Device) -> float:
    """Floating-point operations a second of 16-bit products that count as the ceiling."""
    return PRODUCT_SHARE * device.sms * device.ghz * 1e9 * device.tensor["bf16"]


def add_passes(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """All passes of an op as one row."""
    total = {name: sum(row[name] for row in rows) for name in ("microseconds", "floor")}
    share = sum(row["tensor_share"] * row["microseconds"] for row in rows) / total["microseconds"]
    words = {
        "op": rows[0]["op"],
        "case": f"all {rows[0]['kind']}".strip(),
        "pass": "forward and backward",
    }
    return {**words, **total, "tensor_share": share, "launches": [], "torch": 0.0}


def lines(row: dict[str, Any], measured: str) -> Iterator[str]:
    """A pass and its launches; measured: what stands in that column."""
    name = f"{row['op']}, {row['pass']}: {row['case']}"
    yield (
        f"{name:<93}{row['microseconds']:>10,.0f}{row['floor']:>9,.0f}"
        f"{row['tensor_share']:>9.0%}{measured:>10}".rstrip()
    )
    for launch in row["launches"]:
        limits = launch["limits"]
        others = {limit: us for limit, us in limits.items() if limit != launch["bound"]}
        second = max(others, key=lambda limit: others[limit])
        label = f"  {launch['kernel'].removesuffix('_kernel')} x {launch['programs']:,}"
        yield (
            f"{label:<48}{launch['registers']:>5}{launch['shared']:>8}{launch['resident']:>4} "
            f"{launch['bound']:<11}{second + f' {limits[second]:,.0f}':<17}"
            f"{launch['microseconds']:>10,.0f}"
            + ("  spills" if launch["spilled"] else "")
            + ("" if launch["counted_in"] == "SASS" else "  counted in PTX")
        )
    if row["torch"]:
        yield f"{'  PyTorch: products and copies':<93}{row['torch']:>10,.0f}"


def loop_lines(target: str, work: Work) -> Iterator[str]:
    """The main loops of a launch."""
    amounts = work.amounts
    ratios = [
        f"{amounts[over] / amounts[under]:,.1f} {what}"
        for over, under, what in (
            ("wavefronts", "least wavefronts", "wavefronts per conflict-free wavefront"),
            ("sectors", "requests", "sectors a global request"),
            ("fetched", "programs", "bytes of L2 a program"),
        )
        if amounts.get(under)
    ]
    yield f"{work.kernel} {target}, {work.warps} warps: " + ", ".join(ratios)
    for loop in work.loops:
        pipes = ", ".join(f"{n} {pipe}" for pipe, n in loop.instructions.items() if n)
        shapes = "".join(f", {n} x {shape}" for shape, n in loop.shapes.items())
        count = sum(loop.instructions.values())
        yield f"  {count} instructions an iteration ({work.counted_in}): {pipes}{shapes}"


def measured_microseconds(folder: Path, device: Device, op: str) -> float | None:
    """Forward and backward of an op in the newest record of a device that has it, of those that
    `python -m benchmarks.gpu` keeps; None: there is none.
    """
    found = None
    for path in sorted(folder.glob("*.json")):
        for run in json.loads(path.read_text(encoding="utf-8")):
            gpu = re.sub(r"\W", "", str(run.get("gpu", ""))).lower()
            if device.name.lower() not in gpu or run.get("quick"):
                continue
            for result in run["results"]:
                case = result["case"]
                if (
                    isinstance(case, dict)
                    and case.get("op") == op
                    and str(case.get("what", "")).startswith("forward and backward")
                    and result.get("unit") == "ms"
                    and result.get("ours")
                ):
                    found = 1e3 * float(result["ours"][1])
    return found
