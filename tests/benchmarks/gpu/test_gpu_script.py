"""The GPU script and the tuner run where there is no GPU as far as they can, and a wrong op does
not pass.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="the kernels need triton")

import slim_kernels

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.record import GpuRecorder
from benchmarks.gpu.sections import run_apart, run_here
from benchmarks.records import pages
from benchmarks.records.gpu_rows import Row
from benchmarks.records.recorder import read
from benchmarks.suite.ops import PROBLEMS

ROOT = Path(__file__).parents[3]
ABOUT = {
    "date": "2026-01-02T03:04:05+00:00",
    "commit": "abc",
    "gpu": "ACME (R) Fast 1",
    "driver": "1.2",
    "triton": "3.6",
    "cpu": "CPU",
    "cores": 2,
    "system": "Linux",
    "python": "3",
    "torch": "2",
    "numpy": "2",
    "quick": False,
}
without_gpu = pytest.mark.skipif(
    torch.cuda.is_available(), reason="is about machines without a GPU"
)


def run(module, *arguments):
    """A command line in a process of its own, where triton compiles."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("TRITON_INTERPRET", "SLIM_KERNELS")
    }
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture
def in_process(monkeypatch):
    """A section in this process, whose triton interprets; the environment is put back."""
    monkeypatch.setenv("SLIM_KERNELS", "reference")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    return lambda name, report=lambda row: None: run_here(name, quick=True, report=report)


@pytest.mark.parametrize("module", ["benchmarks.gpu", "benchmarks.gpu.tune"])
def test_help(module):
    done = run(module, "--help")
    assert done.returncode == 0, done.stderr
    assert f"python -m {module}" in done.stdout


@without_gpu
def test_without_a_gpu_one_sentence_says_so():
    done = run("benchmarks.gpu")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "needs a CUDA GPU" in done.stderr


@pytest.mark.long
def test_every_op_passes_in_the_interpreter(tmp_path):
    done = run("benchmarks.gpu", "--interpret", "--quick", "--results", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.endswith("every check passed\n")
    for op in PROBLEMS:
        assert sum(line.startswith(f"{op}  ") for line in done.stdout.splitlines()) >= 3, op
    assert "skipped: needs a GPU" in done.stdout
    assert not list(tmp_path.iterdir()), "interpreted runs leave no record"


@pytest.mark.parametrize("break_gradient", [False, True], ids=["output", "gradient"])
def test_a_wrong_op_fails(in_process, monkeypatch, break_gradient):
    right = slim_kernels.linear_residual

    def wrong(x, weight, bias, residual):
        out = right(x, weight, bias, residual)
        return out + 1e-4 * (residual - residual.detach() if break_gradient else residual)

    monkeypatch.setattr(slim_kernels, "linear_residual", wrong)
    failures = in_process("correctness").failed
    assert "correctness: linear_residual, gradient of residual" in failures
    assert ("correctness: linear_residual, forward" in failures) != break_gradient
    assert all("linear_residual" in failure for failure in failures)


def test_an_unsteady_op_or_one_that_raises_fails(in_process, monkeypatch):
    right, calls = slim_kernels.norm_linear, iter(range(100))
    monkeypatch.setattr(
        slim_kernels, "norm_linear", lambda **given: right(**given) + 1e-6 * next(calls)
    )
    monkeypatch.setattr(slim_kernels, "norm_swiglu", lambda **given: 1 / 0)
    rows: list[Row] = []
    outcome = in_process("determinism", rows.append)
    assert outcome.failed == ["determinism: norm_linear, output and gradients"]
    assert outcome.errors == ["norm_swiglu: ZeroDivisionError: division by zero"]
    assert "prototype_loss" in [row.op for row in rows], "the others run"


def test_an_op_that_falls_back_is_no_pass(in_process, monkeypatch):
    for module in ("linear", "feed_forward"):
        monkeypatch.setattr(
            f"slim_kernels.{module}.obstacle_of_width", lambda width: "a reason of this test"
        )
    outcome = in_process("determinism")
    assert {error.split(":")[0] for error in outcome.errors} == {
        "norm_linear",
        "linear_residual",
        "norm_swiglu",
    }


def test_a_section_that_takes_too_long_or_dies_is_an_error(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    rows: list[Row] = []
    late = run_apart("correctness", quick=True, seconds=0.01, report=rows.append)
    assert late.errors == ["correctness: stopped after 0 s"]
    assert not rows

    def kill(row: Row) -> None:
        rows.append(row)
        for child in multiprocessing.active_children():
            child.kill()

    died = run_apart("correctness", quick=True, seconds=300, report=kill)
    assert died.errors == ["correctness: its process ended with -9"]
    assert rows, "those before it died are kept"


def test_sections_that_come_too_late_are_skipped(monkeypatch, capsys):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert gpu.main(["--section", "correctness", "--minutes", "-1"]) == 0
    assert "skipped: -1 minutes were over" in capsys.readouterr().out


def test_a_target_is_met_by_the_median():
    assert Row("s", "op", "what", ratio=[1.0, 1.5, 2.0], target=1.5).met
    assert not Row("s", "op", "what", ratio=[1.0, 1.4, 2.0], target=1.5).met
    assert Row("s", "op", "what", ours=[5.0, 6.0, 7.0], target=5).met
    assert not Row("s", "op", "what", ours=3.0, ratio=float("nan"), target=2, at_most=True).met
    assert Row("s", "op", "what", ours=3.0).met is None


def test_the_record_is_replaced_by_commit_and_reported(tmp_path, capsys):
    for commit, ratios in (("abc", (1.0, 2.0)), ("abc", (3.0,)), ("def", (4.0,))):
        recorder = GpuRecorder(tmp_path, {**ABOUT, "commit": commit})
        for number, ratio in enumerate(ratios):
            row = Row(
                "dense",
                "norm_linear",
                f"case {number}",
                1.0,
                2.0,
                "ms",
                [0.5, ratio, 9.0],
                1.5,
                note="a note",
            )
            recorder.add(f"gpu_{row.section}", {"op": row.op, "what": row.what}, **row.metrics())
    runs = read(tmp_path / "acme-r-fast-1.json")
    found = [
        (run["commit"], {r["case"]["what"]: r["ratio"][1] for r in run["results"]}) for run in runs
    ]
    assert found == [("abc", {"case 1": 2.0}), ("abc", {"case 0": 3.0}), ("def", {"case 0": 4.0})]
    assert json.dumps(runs)
    assert pages.main(["--results", str(tmp_path), "--figures", str(tmp_path / "figures")]) == 0
    out = capsys.readouterr().out
    assert "ACME (R) Fast 1, driver 1.2, triton 3.6; CPU, 2 cores" in out
    assert "| norm_linear | case 0 | 1 ms | 2 ms | 4 (0.5–9) | ≥ 1.5 | yes | a note |" in out
    assert not (tmp_path / "figures").exists()


@pytest.mark.long
@without_gpu
def test_the_tuner_compiles_a_grid_and_says_that_nothing_was_timed():
    grid = ["BM=16", "BLOCKS=2,4", "num_warps=4", "num_stages=1"]
    done = run(
        "benchmarks.gpu.tune",
        "norm_backward",
        "--width",
        "64",
        *(f"--grid={values}" for values in grid),
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [
        ["BM=16", "BLOCKS=2"],
        ["BM=16", "BLOCKS=4"],
    ]
    assert all(int(line.split()[4]) > 0 and line.split()[5] == "0" for line in lines[1:3]), (
        "registers and no spills"
    )
    assert lines[-2:] == ["2 of 2 candidates are sound", "no timings: there is no CUDA GPU here"]


@pytest.mark.long
def test_the_tuner_drops_what_does_not_fit():
    grid = ["BM=128", "BN=128", "num_warps=4", "num_stages=3"]
    done = run(
        "benchmarks.gpu.tune",
        "linear",
        "--architecture",
        "80",
        *(f"--grid={values}" for values in grid),
    )
    assert done.returncode == 1, done.stderr
    assert "0 of 1 candidates are sound" in done.stdout
    assert "too much shared memory" in done.stdout or "spills" in done.stdout
