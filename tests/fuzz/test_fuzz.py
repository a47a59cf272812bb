"""A sample of `python -m tests.fuzz`: malformed files give a sentence, and nothing else."""

import subprocess
import sys


def test_malformed_files(thorough: bool) -> None:
    count = 20_000 if thorough else 200
    command = [sys.executable, "-m", "tests.fuzz", "--count", str(count), "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    *targets, total = done.stdout.splitlines()[1:]
    refused = sum(int(line[24:].split()[1]) for line in targets)
    assert refused > count / 4  # the changes do damage
    assert total.endswith(" 0 findings")
