"""A run on several processes is the run on one: losses, weights and optimiser state."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import TINY
from tests.training.ranks import FEW, MOVES, STEPS, VARIANTS

TOLERANCE = 1e-5
OTHERS = [(n, s) for n, v in VARIANTS.items() for s in v[1] if (n, s) not in FEW]


@pytest.fixture(scope="module")
def results(cache_path: Path, tmp_path_factory: pytest.TempPathFactory, thorough: bool) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    slow = {"steps": STEPS, "batch": 8, "optim.learning_rate": 5e-3}
    fields = {**TINY, **slow, "data": cache_path}
    which = "every" if thorough else "few"
    command = [sys.executable, "-m", "tests.training.ranks", str(folder), which]
    words = [f"--{name}={value}" for name, value in fields.items()]
    done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "done", done.stdout + done.stderr
    return folder


def read(folder: Path, name: str, size: int, rank: int = 0) -> dict[str, Any]:
    return torch.load(folder / f"{name}-{size}-{rank}.pt", weights_only=True)


@pytest.mark.parametrize(
    ("name", "size"), [*FEW, *(pytest.param(*other, marks=pytest.mark.long) for other in OTHERS)]
)
def test_losses_and_weights_of_one_process(results: Path, name: str, size: int) -> None:
    one, first = read(results, VARIANTS[name][0], 1), read(results, name, size)
    assert one["losses"][-1]["loss"] != one["losses"][0]["loss"]
    many_ranks = [read(results, name, size, rank) for rank in range(size)]
    held = [many["held"] for many in many_ranks]
    if "fsdp" in name:
        assert sum(held) == one["held"]
        assert max(held) < 0.8 * sum(held)
    else:
        assert set(held) == {one["held"]}
    for many in many_ranks:
        for ours, theirs in zip(many["losses"], one["losses"], strict=True):
            norms = ours.pop("gradient_norm"), theirs["gradient_norm"]
            torch.testing.assert_close(*norms, rtol=TOLERANCE, atol=0)
            wanted = {name: theirs[name] for name in ours}
            torch.testing.assert_close(ours, wanted, rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(many["model"], one["model"], rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(many["optimizer"], one["optimizer"], rtol=0, atol=TOLERANCE)
        assert all(torch.equal(many["model"][key], first["model"][key]) for key in first["model"])


@pytest.mark.long
@pytest.mark.parametrize("move", MOVES)
def test_a_checkpoint_goes_on_held_in_another_way(results: Path, move: str) -> None:
    one, moved = read(results, "slim", 1), read(results, move, MOVES[move][1][1])
    assert len(moved["losses"]) == STEPS - STEPS // 2
    ours, theirs = moved["losses"][-1]["loss"], one["losses"][-1]["loss"]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(moved["model"], one["model"], rtol=0, atol=TOLERANCE)
