"""The command: counts every op in the emulator, predicts each device, prints the table."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import slim_kernels.cost
from slim_kernels.cost.counting import Pass, count_number
from slim_kernels.cost.devices import DEVICES, Device
from slim_kernels.cost.problems import BATCH, ROWS, Problem, problems
from slim_kernels.cost.table import (
    HEAD,
    add_passes,
    lines,
    loop_lines,
    measured_microseconds,
    predict_pass,
)

RECORDED_BATCH = 192  # what benchmarks.gpu times


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser(
        "python -m slim_kernels.cost",
        description=slim_kernels.cost.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--device", choices=sorted(DEVICES), action="append", help="only this one; may be repeated"
    )
    parser.add_argument(
        "--op",
        choices=sorted({problem.op for problem in problems()}),
        action="append",
        help="only this op; may be repeated",
    )
    parser.add_argument(
        "--batch", type=int, default=BATCH, help=f"samples of a step (default: {BATCH})"
    )
    parser.add_argument(
        "--rows",
        type=int,
        action="append",
        help=f"rows of the prototype loss (default: {ROWS}); may be repeated",
    )
    parser.add_argument("--loops", action="store_true", help="the main loops of each kernel too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the predictions there too")
    parser.add_argument(
        "--records",
        type=Path,
        default=Path("benchmarks/records/results"),
        metavar="FOLDER",
        help="what python -m benchmarks.gpu measured, which is shown beside predictions of the "
        f"same sizes (--batch {RECORDED_BATCH})",
    )
    options = parser.parse_args(arguments)
    if os.environ.get("TRITON_INTERPRET") == "1":
        print(
            "error: Triton's interpreter compiles nothing; unset TRITON_INTERPRET.", file=sys.stderr
        )
        return 2
    devices = [DEVICES[name] for name in options.device or DEVICES]
    rows = options.rows or [ROWS]
    chosen = [
        (number, problem)
        for number, problem in enumerate(problems(options.batch, tuple(rows)))
        if problem.op in (options.op or [problem.op])
    ]
    targets = sorted({f"sm_{device.capability}" for device in devices})
    jobs = [(number, options.batch, rows, target) for number, _ in chosen for target in targets]
    with multiprocessing.get_context("spawn").Pool(min(os.cpu_count() or 1, len(jobs))) as pool:
        counted = dict(
            zip([(j[0], j[3]) for j in jobs], pool.map(count_number, jobs, 1), strict=True)
        )
    predicted: list[dict[str, Any]] = []
    for device in devices:
        found = [(p, counted[number, f"sm_{device.capability}"]) for number, p in chosen]
        predicted += _print_device(device, found, options)
    if options.loops:
        print("\nMain loops, an iteration of one warp")
        kernels = {
            (work.kernel, target, str([loop.instructions for loop in work.loops])): work
            for (_, target), passes in counted.items()
            for found_pass in passes.values()
            for work in found_pass.launches
        }
        for (_, target, _), work in kernels.items():
            print("\n".join(loop_lines(target, work)))
    if options.json:
        options.json.write_text(json.dumps(predicted, indent=1) + "\n", encoding="utf-8")
    return 0


def _print_device(
    device: Device, found: list[tuple[Problem, dict[str, Pass]]], options: Any
) -> list[dict[str, Any]]:
    print(f"\n{device.name}: predicted, not measured\n{HEAD}")
    rows = []
    for problem, passes in found:
        for name, counted in passes.items():
            if not counted.launches and not counted.torch:
                continue
            try:
                rows.append(predict_pass(problem, name, counted, device))
            except ValueError as error:
                print(f"{problem.op}, {name}: {error}")
                continue
            print("\n".join(lines(rows[-1], "")))
    for op, kind in dict.fromkeys((row["op"], row["kind"]) for row in rows):
        is_recorded = (
            options.rows in (None, [ROWS]) and kind == "stored"
            if op == "prototype_loss"
            else (options.batch == RECORDED_BATCH)
        )
        measured = measured_microseconds(options.records, device, op) if is_recorded else None
        seen = "none" if measured is None else f"{measured:,.0f}"
        added = add_passes([row for row in rows if (row["op"], row["kind"]) == (op, kind)])
        print("\n".join(lines(added, seen)))
    step = sum(row["microseconds"] * row["calls_a_step"] for row in rows) / 1e3
    print(
        f"these ops in a training step of {options.batch} samples, predicted: {step:,.1f} ms",
        flush=True,
    )
    return rows


if __name__ == "__main__":
    sys.exit(main())
