"""Launches on file compile for the devices that take them, without spills and with tensor cores."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="compiling kernels needs triton")
from slim_kernels.check import DEVICES, KERNELS, cases, sample
from slim_kernels.runtime.launch import LAUNCHES

SPOILED = """
from slim_kernels.check import cases_of
from slim_kernels.check.__main__ import report
from slim_kernels.runtime.launch import LAUNCHES, choose

spoiled = (("norm_backward", {"BM": 128}), ("linear", {"num_stages": 32}), ("linear", {"BM": 12}))
raise SystemExit(
    report(
        [
            next(cases_of(name, 90, "bf16", (64,), choose(LAUNCHES[name][90], 64) | change))
            for name, change in spoiled
        ]
    )
)
"""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Python without Triton's interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=3600
    )


def compiled_rows(*arguments: str) -> set[tuple[str, str]]:
    """Kernel and device of every row of a check that finds no fault."""
    done = run("-m", "slim_kernels.check", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    *rows, last = done.stdout.splitlines()[1:]
    assert last == f"every launch is sound ({len(rows)} compiled)"
    return {(kernel, device) for kernel, device, *_ in map(str.split, rows)}


EVERYWHERE = {(kernel, str(device)) for kernel in LAUNCHES for device in DEVICES}


def test_a_sample_of_the_launches_is_sound():
    assert compiled_rows("--sample") == {(case.kernel, str(case.architecture)) for case in sample()}


@pytest.mark.long
def test_every_launch_is_sound():
    assert compiled_rows() == EVERYWHERE


def test_the_sample_varies():
    chosen = sample()
    assert chosen == sample()
    assert 3 * len(chosen) >= len(EVERYWHERE) - len(LAUNCHES)
    assert {case.kernel for case in chosen} == set(LAUNCHES)
    assert {case.architecture for case in chosen} == set(DEVICES)
    for flag in ("VISIBLE", "NORM", "RESIDUAL", "NORMED", "MASK", "INDEX", "BIAS", "SAME", "OTHER"):
        assert {c.constants[flag] for c in chosen if flag in c.constants} == {True, False}
    assert {case.constants["D"] for case in chosen if "D" in case.constants} == {
        16,
        32,
        64,
        96,
        128,
        160,
        192,
        256,
    }
    assert {case.dtype for case in chosen} == {"bf16", "fp16"}
    assert {case.wide for case in chosen} == {True, False}


def test_the_check_leaves_out_no_flag_no_type_and_no_size():
    """Of what `every` compiles, each value of each constant and type is left on each device."""

    def values(chosen):
        found = set()
        for case in chosen:
            if not DEVICES[case.architecture].alike:
                place = case.kernel, case.architecture
                sets = {**case.constants, **case.types, "dtype": case.dtype, "wide": case.wide}
                found |= {(*place, *item) for item in sets.items()}
        return found

    assert values(cases()) == values(cases(every=True))
    assert {case.kernel for case in cases()} == set(LAUNCHES) == set(KERNELS)


def test_the_ops_launch_what_is_checked():
    """By Triton's own signature, with what makes it compile anew: dtypes, flags, numbers."""
    done = run(Path(__file__).with_name("launched.py"), "80", "gfx942")
    assert done.returncode == 0, done.stdout[:2000] + done.stderr[-2000:]
    counts = [line.split()[:3] for line in done.stdout.splitlines() if line]
    assert [device for device, *_ in counts] == ["80", "gfx942"]
    assert all(int(launches) > int(kernels) == len(LAUNCHES) for _, launches, kernels in counts)


def test_unsound_launches_are_reported(tmp_path):
    script = tmp_path / "spoiled.py"
    script.write_text(SPOILED)
    done = run(script)
    assert done.returncode == 3, done.stdout + done.stderr[-2000:]
    *rows, last = done.stdout.splitlines()[1:]
    assert last == "3 faults"
    for row, fault in zip(
        rows, ("spills", "too much shared memory", "does not compile"), strict=True
    ):
        assert f"  {fault}" in row
