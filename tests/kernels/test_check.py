"""Every launch on file compiles for its architecture without spills and with tensor cores."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="compiling kernels needs triton")
from slim_kernels.launch import LAUNCHES


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "slim_kernels.check", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


def test_every_launch_is_sound():
    done = check()
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    *rows, last = done.stdout.splitlines()[1:]
    assert last == f"every launch is sound ({len(rows)} compiled)"
    seen = {tuple(row.split()[:3]) for row in rows}
    assert seen == {
        (name, arch, dtype) for name in LAUNCHES for arch in ("80", "90", "100") for dtype in ("bf16", "fp16")
    }


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [("tile.update(BM=128, num_warps=4)", "spills"), ("tile.update(num_stages=9)", "too much shared memory"),
     ("tile.update(BM=12)", "does not compile")],
)  # fmt: skip
def test_an_unsound_launch_is_reported(spoil, fault, tmp_path):
    """The same command with one option made bad, in a process of its own; compiling happens in its children."""
    script = tmp_path / "spoiled.py"
    script.write_text(
        "from slim_kernels import check, launch\n"
        f"for _, tile in launch.LAUNCHES['norm_swiglu'][90]:\n    {spoil}\n"
        "if __name__ == '__main__':\n"
        "    raise SystemExit(check.main('--kernel norm_swiglu --architecture 90 --dtype bf16'.split()))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr[-2000:]
    assert fault in done.stdout
    assert "every launch is sound" not in done.stdout
