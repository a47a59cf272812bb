"""A run on several processes is the run on one: losses, weights and optimiser state."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import TINY
from tests.training.ranks import STEPS, VARIANTS

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def results(cache_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    slow = {"steps": STEPS, "batch": 8, "optim.learning_rate": 5e-3}
    fields = {**TINY, **slow, "data": cache_path}
    words = []
    command = [sys.executable, "-m", "tests.training.ranks", str(folder)]
    words = [f"--{name}={value}" for name, value in fields.items()]
    done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "done", done.stdout + done.stderr
    return folder


def read(folder: Path, name: str, size: int, rank: int = 0) -> dict[str, Any]:
    return torch.load(folder / f"{name}-{size}-{rank}.pt", weights_only=True)


@pytest.mark.parametrize(("name", "size"), [(n, s) for n, v in VARIANTS.items() for s in v[1]])
def test_losses_and_weights_of_one_process(results: Path, name: str, size: int) -> None:
    one, first = read(results, VARIANTS[name][0], 1), read(results, name, size)
    assert one["losses"][-1]["loss"] != one["losses"][0]["loss"]
    for many in (read(results, name, size, rank) for rank in range(size)):
        for ours, theirs in zip(many["losses"], one["losses"], strict=True):
            norms = ours.pop("gradient_norm"), theirs["gradient_norm"]
            torch.testing.assert_close(*norms, rtol=TOLERANCE, atol=0)
            wanted = {name: theirs[name] for name in ours}
            torch.testing.assert_close(ours, wanted, rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(many["model"], one["model"], rtol=0, atol=TOLERANCE)
        assert all(torch.equal(many["model"][key], first["model"][key]) for key in first["model"])
