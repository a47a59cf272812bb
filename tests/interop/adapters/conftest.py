"""Small checkpoints, and a task that is easy to learn."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

EXAMPLES = Path(__file__).parents[3] / "examples"
MARK = "# slim_fast"


@pytest.fixture
def checkpoint(make_encoder, tmp_path) -> Callable[..., str]:
    """The folder of a small encoder (16 wide, 3 blocks, 2 heads); the same one when asked again."""

    def save(topology: Any = "ntu-25", channels: str = "xyz") -> str:
        folder = tmp_path / f"{topology}-{channels}"
        if not folder.exists():
            make_encoder(topology, channels).save_pretrained(folder)
        return str(folder)

    return save


def toy(
    clips: int, frames: int = 16, joints: int = 25, channels: int = 3
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips (N, C, T, V, 2) and labels: whether people are raised or lowered. Every other clip's
    second is absent.
    """
    labels = torch.arange(clips) % 2
    x = 0.1 * torch.randn(clips, channels, frames, joints, 2)
    x[:, 1] += (2.0 * labels - 1).view(-1, 1, 1, 1)
    x[::3, ..., 1] = 0
    return x, labels


def swapped(example: str) -> dict[str, Any]:
    """A YAML example, whose lines that name anything of ours are marked, and at most three."""
    path = EXAMPLES / example
    check_marks(path)
    return yaml.safe_load(path.read_text())


def check_marks(path: Path) -> None:
    lines = path.read_text().splitlines()
    marked = [line for line in lines if line.endswith(MARK)]
    assert 1 <= len(marked) <= 3
    ours = [
        line
        for line in lines
        if re.search(r"slim_fast\.|SLiM|pretrained|runs/", line.split("#")[0])
    ]
    assert ours == marked
