"""python -m slim_kernels.check: compile every launch on file, without a GPU, and look at the
result.

Prints registers, spilled bytes (on AMD registers), shared memory and tensor-core instructions of
each kernel; exits with 1 when one spills, asks for more shared memory than its device has, or
multiplies without tensor cores.
"""

import argparse
import multiprocessing
import os
import sys
from collections.abc import Sequence

from slim_kernels.check.cases import DEVICES, Case, cases, sample
from slim_kernels.check.compiled import Usage, look
from slim_kernels.runtime.launch import LAUNCHES


def report(chosen: Sequence[Case]) -> int:
    """Compile and print each case; returns how many have a fault."""
    head = f"{'kernel':<27}{'device':>6} {'type':<5}{'stream':<7}{'constants':<77}"
    print(f"{head}{'regs':>5}{'spill':>6}{'shared':>8}{'mma':>5}")
    # a kernel whose types are the same in both dtypes is compiled once
    distinct: dict[str, Case] = {}
    for case in chosen:
        distinct.setdefault(case.source(), case)
    results: dict[str, tuple[Usage | None, str]] = {}
    faults = 0
    # forked, so that torch and triton are imported once: that takes as long as four compilations
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        compiled = zip(distinct, pool.imap(look, distinct.values()), strict=True)
        for case in chosen:
            while case.source() not in results:
                source, result = next(compiled)
                results[source] = result
            usage, fault = results[case.source()]
            faults += bool(fault)
            usage_columns = (
                f"{usage.registers:>5}{usage.spilled:>6}{usage.shared:>8}{usage.tensor_core:>5}"
                if usage
                else " " * 24
            )
            print(f"{case}{usage_columns}  {fault}", flush=True)
    print(f"{faults} faults" if faults else f"every launch is sound ({len(chosen)} compiled)")
    return faults


def run_all(architectures: list[str], dtypes: list[str] | None, every: bool, sample: bool) -> int:
    """Run and print each problem; returns how many have a fault."""
    # the emulator, which only this needs, is loaded here
    from slim_kernels.check import run

    print(run.HEAD)
    faults = 0
    for architecture in architectures:
        if not architecture.isdigit():
            raise SystemExit(f"error: {architecture} can't be emulated; choose a number.")
        kinds = dtypes or tuple(run.DTYPES)
        for outcome in run.run(int(architecture), kinds, every=every, sample=sample):
            print(outcome, flush=True)
            faults += bool(outcome.fault)
    print(f"{faults} faults" if faults else "every launch is right")
    return faults


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser("python -m slim_kernels.check", description=__doc__)
    parser.add_argument(
        "--kernel",
        choices=sorted(LAUNCHES),
        action="append",
        help="only this kernel (may be repeated)",
    )
    parser.add_argument(
        "--architecture",
        choices=[str(device) for device in DEVICES],
        action="append",
        help="only this device (may be repeated)",
    )
    parser.add_argument(
        "--dtype", choices=("bf16", "fp16"), action="append", help="only this one; both otherwise"
    )
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument(
        "--sample",
        action="store_true",
        help="of each kernel on every third device one case; with --run each problem in one dtype",
    )
    parser.add_argument(
        "--run",
        action="store_true",
        help="run the launches on emulated GPUs (80 and 90 unless chosen) instead, against float64",
    )
    extent.add_argument(
        "--every", action="store_true", help="every set of constants and types at every size"
    )
    options = parser.parse_args(arguments)
    if os.environ.get("TRITON_INTERPRET") == "1":
        print(
            "error: Triton's interpreter compiles nothing; unset TRITON_INTERPRET.", file=sys.stderr
        )
        return 2
    if options.run:
        if options.kernel:
            parser.error("--run takes no --kernel: it runs whole operations")
        architectures = options.architecture or ["80", "90"]
        return 1 if run_all(architectures, options.dtype, options.every, options.sample) else 0
    dtypes = tuple(options.dtype or ("bf16", "fp16"))
    chosen = [
        case
        for case in (sample() if options.sample else cases(dtypes, every=options.every))
        if case.kernel in (options.kernel or LAUNCHES)
        and str(case.architecture) in (options.architecture or map(str, DEVICES))
        and case.dtype in dtypes
    ]
    return 1 if report(chosen) else 0


if __name__ == "__main__":
    sys.exit(main())
