"""A sample of `python -m benchmarks.faults`: faults done to real runs, which lose nothing."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.faults.injected import FAULTS
from benchmarks.faults.smallest import are_same

SAMPLE = "flipped bits in checkpoints"


def test_nothing_is_lost(tmp_path: Path, thorough: bool) -> None:
    record = tmp_path / "record.json"
    chosen = ["--faults", "60"] if thorough else ["--faults", "1", "--only", SAMPLE]
    command = [sys.executable, "-m", "benchmarks.faults", *chosen, "--record", str(record)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = json.loads(record.read_text())["trials"]
    assert {trial["fault"] for trial in trials} == (set(FAULTS) if thorough else {SAMPLE})
    assert not any(trial["lost"] for trial in trials)


def test_a_bit_that_is_another_is_noticed() -> None:
    weights = torch.ones(3)
    other = torch.from_numpy((weights.numpy().view(np.int32) ^ 1).view(np.float32))
    assert are_same({"a": [weights, b"x"]}, {"a": [weights.clone(), b"x"]})
    for different in ({"a": [other, b"x"]}, {"a": [weights, b"y"]}, {"a": [weights]}, {}):
        assert not are_same({"a": [weights, b"x"]}, different)
