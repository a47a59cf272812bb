"""What is fuzzed: something that reads files, with good files to begin with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from slim_fast import SLiMEncoder
from slim_fast.data import CacheWriter
from slim_fast.data.clips import Clip
from slim_fast.model.encoder import EncoderConfig
from slim_fast.skeletons import get_topology


@dataclass(frozen=True)
class Target:
    """write(folder) writes good files into an empty folder; read(folder) reads them, and raises
    nothing but UserError whatever they hold.
    """

    write: Callable[[Path], object]
    read: Callable[[Path], object]
    share: float = 1.0
    """Of as many inputs as other targets are given."""


def make_clip(joints: int = 25, channels: int = 3) -> np.ndarray:
    """(3, V, C, 1) float32."""
    random = np.random.default_rng(0)
    return random.uniform(0.1, 2, (3, joints, channels, 1)).astype("f4")


def write_cache(folder: Path) -> None:
    """Four clips of two classes, half of them for training."""
    with CacheWriter(folder, get_topology("ntu-25"), overwrite=True) as writer:
        for number in range(4):
            side = {"xsub": "train" if number < 2 else "test"}
            writer.add(Clip(make_clip() + number, f"clip{number}", number % 2, split=side))


@cache
def small_encoder() -> SLiMEncoder:
    """Always the same."""
    torch.manual_seed(0)
    return SLiMEncoder(topology="ntu-25", config=EncoderConfig(width=8, depth=1, heads=1))
