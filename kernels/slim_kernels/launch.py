"""How each Triton kernel is launched: plain data by architecture, checked by `python -m slim_kernels.check`.

Nothing is tuned in a user's run: `python -m benchmarks.tune` times alternatives offline, and what wins is written here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch

Option = tuple[tuple[int, ...], dict[str, int]]


def _options(names: str, *rows: tuple[tuple[int, ...], tuple[int, ...]]) -> list[Option]:
    """(limits, tile sizes of `names`, then warps and stages), the smallest limits first."""
    keys = (*names.split(), "num_warps", "num_stages")
    return [(limits, dict(zip(keys, numbers, strict=True))) for limits, numbers in rows]


_SHORT = ((32, 64), (32, 32, 4, 3))
_HEADS_BY_64 = ((1024, 64), (32, 32, 4, 2))
# kernel -> compute capability -> options; limits are (longest sequence, head size) for attention, (width,) elsewhere.
# 80 stands for every device without an entry of its own, also those with 99 KB of shared memory (8.6, 8.9, 12.x).
LAUNCHES: dict[str, dict[int, list[Option]]] = {
    "attention_forward": {
        80: _options("BM BN", _SHORT, ((1024, 64), (64, 64, 4, 2))),
        90: _options("BM BN", _SHORT, ((1024, 64), (64, 64, 4, 2))),
        100: _options("BM BN", _SHORT, ((1024, 64), (64, 32, 4, 2))),
    },
    "attention_backward_queries": {
        80: _options("BM BN", _SHORT, ((1024, 32), (64, 32, 4, 2)), _HEADS_BY_64),
        90: _options("BM BN", _SHORT, ((1024, 32), (64, 64, 4, 2)), _HEADS_BY_64),
        100: _options("BM BN", _SHORT, ((1024, 32), (64, 64, 4, 2)), _HEADS_BY_64),
    },
    "attention_backward_keys": {
        80: _options("BM BN", ((32, 64), (32, 32, 4, 2)), ((1024, 32), (32, 64, 4, 2)), _HEADS_BY_64),
        90: _options("BM BN", _SHORT, ((1024, 32), (32, 64, 4, 2)), _HEADS_BY_64),
        100: _options("BM BN", _SHORT, ((1024, 32), (64, 64, 4, 2)), _HEADS_BY_64),
    },
    "linear": {
        80: _options("BM BN", ((256,), (64, 64, 4, 2))),
        90: _options("BM BN", ((256,), (128, 64, 8, 3))),
        100: _options("BM BN", ((256,), (128, 64, 8, 2))),
    },
    "norm_backward": {
        80: _options("BM BLOCKS", ((64,), (32, 4, 4, 1)), ((128,), (16, 8, 4, 1)), ((256,), (8, 16, 8, 1))),
        90: _options("BM BLOCKS", ((64,), (32, 4, 4, 1)), ((128,), (16, 8, 4, 1)), ((256,), (8, 16, 8, 1))),
        100: _options("BM BLOCKS", ((128,), (16, 8, 4, 1)), ((256,), (8, 16, 8, 1))),
    },
    "norm_swiglu": {
        80: _options("BM BF EARLY", ((256,), (64, 32, 0, 8, 2))),
        90: _options("BM BF EARLY", ((256,), (64, 64, 1, 8, 2))),
        100: _options("BM BF EARLY", ((128,), (64, 64, 1, 8, 2)), ((256,), (64, 64, 1, 8, 1))),
    },
    "norm_swiglu_backward": {
        80: _options("BM BF", ((256,), (64, 32, 8, 1))),
        90: _options("BM BF", ((256,), (64, 32, 8, 2))),
        100: _options("BM BF", ((128,), (64, 32, 8, 2)), ((256,), (64, 32, 8, 1))),
    },
    "embed": {
        80: _options("BM", ((256,), (32, 8, 1))),
        90: _options("BM", ((64,), (64, 4, 1)), ((128,), (64, 8, 1)), ((256,), (32, 8, 1))),
        100: _options("BM", ((64,), (64, 4, 1)), ((128,), (64, 8, 1)), ((256,), (32, 8, 1))),
    },
    "embed_backward": {
        80: _options("BM BF", ((256,), (16, 64, 8, 1))),
        90: _options("BM BF", ((256,), (32, 64, 8, 2))),
        100: _options("BM BF", ((16,), (16, 32, 4, 1)), ((64,), (32, 32, 4, 1)), ((256,), (32, 32, 8, 1))),
    },
    "attend": {
        80: _options("BM BN", ((128,), (64, 64, 4, 2)), ((256,), (64, 32, 8, 2))),
        90: _options("BM BN", ((128,), (64, 64, 4, 2)), ((256,), (64, 64, 8, 2))),
        100: _options("BM BN", ((128,), (64, 64, 4, 2)), ((256,), (64, 64, 8, 2))),
    },
    "segment_sum": {architecture: _options("", ((256,), (4, 1))) for architecture in (80, 90, 100)},
    "log_sum_exp": {
        80: _options("BM BN", ((256,), (64, 64, 8, 2))),
        90: _options("BM BN", ((256,), (128, 64, 8, 3))),
        100: _options("BM BN", ((256,), (128, 64, 8, 3))),
    },
}


@dataclass(frozen=True)
class Shipped:
    """A kernel as `python -m slim_kernels.check` compiles it."""

    function: Any
    """The Triton kernel."""
    types: dict[str, str]
    """What its pointers point at: Triton's names, T for the matrix products' dtype, S for the residual stream's."""
    sizes: tuple[tuple[int, ...], ...]
    """For each size that LAUNCHES asks for, those to compile."""
    variants: Callable[..., Iterator[dict[str, Any]]]
    """From one of these sizes each, all constants but the tile sizes (and, in lower case, types that differ)."""
    scalars: dict[str, str] = field(default_factory=dict)
    """Types of its plain numbers."""
    streams: tuple[str, ...] = ("fp32", "T")
    """What S stands for: float32, as in training under autocast, and T, as in a model that is wholly of that dtype."""
    matrix: bool = True
    """Whether it multiplies matrices, and so must use tensor cores."""


def launch(kernel: str, device: torch.device, *sizes: int) -> dict[str, int]:
    """Tile sizes, warps and stages of the first option of `kernel` that is large enough for `sizes`."""
    return choose(LAUNCHES[kernel][architecture(device)], *sizes)


def choose(options: list[Option], *sizes: int) -> dict[str, int]:
    """The first option that is large enough, else the last."""
    fitting = (tile for limits, tile in options if all(s <= limit for s, limit in zip(sizes, limits, strict=True)))
    return next(fitting, options[-1][1])


@lru_cache
def architecture(device: torch.device) -> int:
    """The entry of LAUNCHES for a device; the oldest for an interpreter on a CPU."""
    if device.type != "cuda":
        return 80
    major, _ = torch.cuda.get_device_capability(device)
    return 10 * major if major in (9, 10) else 80
