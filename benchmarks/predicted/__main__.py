"""The command: records step, inference and single operations, and prints what they should take."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from slim_kernels.cost.devices import DEVICES
from slim_kernels.cost.problems import MASKED
from slim_kernels.cost.table import tensor_ceiling

import benchmarks.predicted
from benchmarks.flops.counting import costs
from benchmarks.predicted import ops, step
from benchmarks.predicted.cost import Prediction
from benchmarks.predicted.kernels import KernelTimes
from benchmarks.records.predictions import prediction_tables
from benchmarks.suite.ops import TIMED
from slim_fast.training.config import PretrainConfig

CLIPS = 512


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.predicted",
        description=benchmarks.predicted.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    hopper = sorted(name for name, device in DEVICES.items() if device.capability == 90)
    parser.add_argument("--device", choices=hopper, default="H200")
    parser.add_argument("--batch", type=int, default=PretrainConfig().batch, help="of a step")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the predictions there too")
    options = parser.parse_args(arguments)
    if os.environ.get("TRITON_INTERPRET") == "1":
        print("error: the interpreter compiles nothing; unset TRITON_INTERPRET.", file=sys.stderr)
        return 2
    found = predict(options.device, options.batch)
    print(prediction_tables([found]))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def predict(device: str, batch: int) -> dict[str, Any]:
    """Steps, inference and single operations on a device, plain data; times in milliseconds."""
    times = KernelTimes(DEVICES[device])
    views, making = step.record_views(batch)
    visible = step.visible_sequences(views)
    steps = []
    for side, recorded in (
        ("attention to all tokens", step.record_step(views, "all")),
        ("attention to visible tokens", step.record_step(views, "visible")),
        ("eager PyTorch", step.record_eager_step(views)),
    ):
        is_eager = side.startswith("eager")
        found = Prediction([*making * is_eager, *recorded], times, visible)
        if not is_eager:
            found.make_beside(Prediction(making, times))
        steps.append({"side": side, **describe(found), "samples": batch})
    # what the clips need at the ceiling
    needed = costs()["SLiM"].inference.matmuls * step.PEOPLE * CLIPS
    inference = []
    for side in ("ours", "eager PyTorch"):
        recorded = step.record_inference(CLIPS, eager=side != "ours")
        described = describe(Prediction(recorded, times))
        share = needed / tensor_ceiling(times.device) / described["gpu"] * 1e3
        inference.append({"side": side, **described, "clips": CLIPS, "ceiling": share})
    rows = MASKED * batch  # of the prototype loss
    sizes = replace(TIMED, samples=batch, rows=rows)
    return {
        "device": device,
        "batch": batch,
        "steps": steps,
        "inference": inference,
        "ops": list(ops.compare_ops(sizes, times)),
    }


def describe(found: Prediction) -> dict[str, Any]:
    """The GPU's milliseconds, those with a host that launches, and both of each kind."""
    kinds = {
        name: {
            "gpu": sum(total.limits.values()) / 1e3,
            "host": total.host / 1e3,
            "calls": total.calls,
            "limits": {limit: us / 1e3 for limit, us in total.limits.items()},
        }
        for name, total in found.totals.items()
    }
    return {"gpu": found.gpu / 1e3, "launched": found.launched / 1e3, "kinds": kinds}


if __name__ == "__main__":
    sys.exit(main())
