"""Waiting for what a process of a run does."""

import subprocess
import time
from pathlib import Path


def wait_for(file: Path, process: "subprocess.Popen[str]") -> None:
    limit = time.monotonic() + 60
    while not file.exists():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < limit
        time.sleep(0.005)
