"""The command, and records and predictions of other versions beside its own."""

import json
import os
import subprocess
import sys

from slim_kernels.cost.__main__ import main
from slim_kernels.cost.devices import DEVICES
from slim_kernels.cost.table import compare_lines, measured_microseconds

H100, H200 = DEVICES["H100"], DEVICES["H200"]


def test_a_record_is_found_by_device_and_op(tmp_path) -> None:
    case = {"op": "norm_linear", "what": "forward and backward, eager"}
    result = {"benchmark": "gpu_dense", "case": case, "ours": [1.0, 2.5, 3.0], "unit": "ms"}
    run = {"gpu": "NVIDIA H200", "quick": False, "results": [result]}
    (tmp_path / "nvidia-h200.json").write_text(json.dumps([run]))
    assert measured_microseconds(tmp_path, H200, "norm_linear") == 2500
    assert measured_microseconds(tmp_path, H200, "norm_swiglu") is None
    assert measured_microseconds(tmp_path, H100, "norm_linear") is None


def test_the_interpreter_is_refused(capsys) -> None:
    assert main(["--op", "linear_residual"]) == 2
    assert "unset TRITON_INTERPRET" in capsys.readouterr().err


def test_the_command(tmp_path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "slim_kernels.cost", "--device", "A100", "--loops"]
    command += ["--op", "linear_residual", "--json", str(tmp_path / "cost.json")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "predicted, not measured" in done.stdout
    assert "none" in done.stdout  # no record of that GPU
    assert "m16n8k16" in done.stdout
    rows = json.loads((tmp_path / "cost.json").read_text())
    assert [row["pass"] for row in rows] == ["forward", "backward"]
    assert all(row["microseconds"] > row["floor"] > 0 for row in rows)


def test_two_versions_side_by_side() -> None:
    def row(op: str, which: str, us: float, calls: float, **more: str) -> dict[str, object]:
        return {
            "device": "H200",
            "op": op,
            "pass": which,
            "microseconds": us,
            "calls_a_step": calls,
            **more,
        }

    before = [row("a", "forward", 3000, 2), row("a", "backward", 5000, 1), row("b", "x", 600, 1)]
    after = [
        row("a", "forward", 1500, 2, kind=""),
        row("a", "backward", 2500, 1, kind=""),
        row("b", "x", 300, 1, kind="one way"),
        row("b", "x", 1200, 0, kind="other way"),
        row("c", "x", 1, 0, kind=""),
    ]
    found = [line.split() for line in list(compare_lines(before, after))[1:]]
    assert found[0] == ["H200,", "a", "8,000", "4,000", "2.00x", "us"]
    assert found[1] == ["H200,", "b", "one", "way", "600", "300", "2.00x", "us"]
    assert found[2] == ["H200,", "b", "other", "way", "600", "1,200", "0.50x", "us"]
    assert found[3][-4:] == ["not", "in", "the", "file"]
    assert found[4][-4:] == ["11.6", "5.8", "2.00x", "ms"]
