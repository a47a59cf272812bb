"""How each Triton kernel is launched: plain data by architecture, checked by `python -m
slim_kernels.check`.

Nothing is tuned in a user's run: `python -m benchmarks.gpu.tune` times alternatives offline, and
what wins is written here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from slim_kernels.runtime.target import capability, is_emulated

Architecture = int | str
"""10 times the compute capability, or AMD's name."""
Option = tuple[tuple[int, ...], dict[str, int]]


def _options(names: str, *rows: tuple[tuple[int, ...], tuple[int, ...]]) -> list[Option]:
    """(limits, tile sizes of `names`, then warps and stages), the smallest limits first."""
    keys = (*names.split(), "num_warps", "num_stages")
    return [(limits, dict(zip(keys, numbers, strict=True))) for limits, numbers in rows]


_SHORT = ((32, 32), (32, 32, 2, 1))
_WHOLE = (_SHORT, ((64, 32), (64, 64, 4, 1)), ((128, 32), (64, 128, 4, 2)))
_NVIDIA = (80, 90, 100)
_HEADS_BY_64 = ((1024, 64), (32, 32, 4, 2))
# kernel -> architecture -> options; limits are (longest sequence, head size) for attention,
# (cells,) for masks, else (width,). 86 stands for every later device without an entry of its own
# (8.6, 8.9 and 12.x have 99 KB of shared memory), gfx942 for all of AMD's (64 KB).
LAUNCHES: dict[str, dict[Architecture, list[Option]]] = {
    "attention_forward_whole": {
        80: _options("BM BN", *_WHOLE),
        90: _options("BM BN", *_WHOLE, ((256, 32), (64, 256, 4, 2))),
        100: _options("BM BN", *_WHOLE),
    },
    "attention_backward_whole": {
        80: _options("BM BN", _SHORT, ((64, 32), (32, 64, 4, 2))),
        86: _options("BM BN", _SHORT),
        90: _options("BM BN", _SHORT, ((64, 32), (32, 64, 4, 2))),
        100: _options("BM BN", _SHORT, ((64, 32), (32, 64, 4, 2))),
    },
    "attention_forward": {
        80: _options("BM BN", ((1024, 64), (64, 64, 4, 2))),
        90: _options("BM BN", ((1024, 32), (128, 64, 4, 2)), ((1024, 64), (64, 64, 4, 2))),
        100: _options("BM BN", ((1024, 64), (64, 32, 4, 2))),
        "gfx942": _options("BM BN", ((1024, 64), (64, 32, 4, 2))),
    },
    "attention_backward_queries": {
        80: _options("BM BN", ((1024, 32), (64, 32, 4, 2)), _HEADS_BY_64),
        86: _options("BM BN", ((1024, 32), (64, 32, 4, 1)), ((1024, 64), (32, 32, 4, 1))),
        90: _options("BM BN", ((1024, 32), (128, 32, 4, 2)), _HEADS_BY_64),
        100: _options("BM BN", ((1024, 32), (64, 64, 4, 2)), _HEADS_BY_64),
    },
    "attention_backward_keys": {
        80: _options("BM BN", ((1024, 32), (32, 64, 4, 2)), _HEADS_BY_64),
        86: _options(
            "BM BN", ((1024, 16), (64, 64, 4, 2)), ((1024, 32), (32, 64, 4, 2)), _HEADS_BY_64
        ),
        90: _options("BM BN", ((1024, 32), (32, 128, 4, 2)), _HEADS_BY_64),
        100: _options("BM BN", ((1024, 32), (64, 64, 4, 2)), _HEADS_BY_64),
        "gfx942": _options("BM BN", ((1024, 64), (32, 64, 4, 1))),
    },
    "linear": {
        80: _options("BM BN", ((256,), (64, 64, 4, 2))),
        90: _options("BM BN", ((256,), (128, 64, 8, 3))),
        100: _options("BM BN", ((256,), (128, 64, 8, 2))),
    },
    "norm_backward": {
        80: _options(
            "BM BLOCKS", ((64,), (32, 4, 4, 1)), ((128,), (16, 8, 4, 1)), ((256,), (8, 16, 8, 1))
        ),
        90: _options(
            "BM BLOCKS", ((64,), (32, 4, 4, 1)), ((128,), (16, 8, 4, 1)), ((256,), (8, 16, 8, 1))
        ),
        100: _options("BM BLOCKS", ((128,), (16, 8, 4, 1)), ((256,), (8, 16, 8, 1))),
    },
    "norm_swiglu": {
        80: _options(
            "BM BF EARLY",
            ((128,), (64, 32, 0, 8, 2)),
            ((255,), (64, 32, 1, 8, 2)),  # for padded rows
            ((256,), (64, 32, 2, 8, 2)),
        ),
        86: _options("BM BF EARLY", ((128,), (64, 32, 0, 8, 2)), ((256,), (32, 32, 1, 8, 2))),
        90: _options("BM BF EARLY", ((256,), (128, 32, 2, 8, 2))),
        100: _options("BM BF EARLY", ((128,), (64, 64, 1, 8, 2)), ((256,), (64, 64, 1, 8, 1))),
        "gfx942": _options("BM BF EARLY", ((128,), (64, 32, 0, 8, 2)), ((256,), (32, 32, 0, 8, 1))),
    },
    "norm_swiglu_backward": {
        80: _options("BM BF", ((256,), (64, 32, 8, 1))),
        86: _options("BM BF", ((128,), (64, 32, 8, 2)), ((256,), (64, 32, 8, 1))),
        90: _options(
            "BM BF",
            ((128,), (128, 32, 8, 1)),
            ((255,), (64, 32, 8, 2)),  # for padded rows
            ((256,), (128, 32, 8, 1)),
        ),
        100: _options("BM BF", ((128,), (64, 32, 8, 2)), ((256,), (64, 32, 8, 1))),
        "gfx942": _options("BM BF", ((128,), (64, 32, 8, 1)), ((256,), (32, 16, 4, 1))),
    },
    "embed": {
        80: _options("BM BLOCKS", ((256,), (32, 8, 8, 1))),
        90: _options(
            "BM BLOCKS", ((64,), (64, 8, 4, 1)), ((128,), (64, 8, 8, 1)), ((256,), (32, 8, 8, 1))
        ),
        100: _options(
            "BM BLOCKS", ((64,), (64, 8, 4, 1)), ((128,), (64, 8, 8, 1)), ((256,), (32, 8, 8, 1))
        ),
    },
    "embed_backward": {
        80: _options("BM BF", ((256,), (16, 64, 8, 1))),
        86: _options("BM BF", ((16,), (32, 64, 8, 1)), ((256,), (16, 64, 8, 1))),
        90: _options("BM BF", ((256,), (32, 32, 8, 1))),
        100: _options(
            "BM BF", ((16,), (16, 32, 4, 1)), ((64,), (32, 32, 4, 1)), ((256,), (32, 32, 8, 1))
        ),
    },
    "attend": {
        80: _options("BM BN", ((128,), (64, 64, 4, 2)), ((256,), (64, 32, 8, 2))),
        86: _options("BM BN", ((256,), (64, 32, 8, 2))),
        # 128 rows halve what crosses L2
        90: _options("BM BN", ((128,), (64, 64, 4, 2)), ((256,), (128, 32, 8, 2))),
        100: _options("BM BN", ((128,), (64, 64, 4, 2)), ((256,), (64, 64, 8, 2))),
        "gfx942": _options("BM BN", ((128,), (64, 32, 4, 1)), ((256,), (64, 32, 8, 1))),
    },
    "segment_sum": {version: _options("", ((256,), (4, 1))) for version in _NVIDIA},
    "log_sum_exp": {
        80: _options("BM BN", ((256,), (64, 64, 8, 2))),
        # one stage: two programs fit an SM, one's exponentials beside the other's products
        90: _options("BM BN", ((256,), (128, 64, 8, 1))),
        100: _options("BM BN", ((256,), (128, 64, 8, 3))),
    },
    # a tile's row is 8 numbers of 2 bytes for each of 128 threads, of which two groups share rows
    "lse_of_columns": {version: _options("BM BN", ((), (8, 1024, 4, 1))) for version in _NVIDIA},
    "lse_of_rows": {version: _options("BM BN", ((), (8, 1024, 8, 1))) for version in _NVIDIA},
    "probabilities": {version: _options("BM BN", ((), (8, 1024, 8, 1))) for version in _NVIDIA},
    "tube_masks": {
        version: _options("", ((256,), (1, 1)), ((8192,), (8, 1))) for version in _NVIDIA
    },
}

for _by_architecture in LAUNCHES.values():
    for _entry in (86, "gfx942"):  # none of its own where 80's do
        _by_architecture.setdefault(_entry, _by_architecture[80])


# Of every launch: multiplication and addition in one instruction, where Triton 3.10 would take two.
COMPILED_WITH = {"enable_fp_fusion": True}


@dataclass(frozen=True)
class KernelSpec:
    """A kernel as `python -m slim_kernels.check` compiles it."""

    function: Any
    """The Triton kernel."""
    types: dict[str, str]
    """What its pointers point at: Triton's names, T for the matrix products' dtype, S for the
    residual stream's.
    """
    sizes: tuple[tuple[int, ...], ...]
    """For each size that LAUNCHES asks for, those to compile."""
    variants: Callable[..., Iterator[dict[str, Any]]]
    """From one of these sizes each, all constants but the tile sizes (and, in lower case, types
    that differ).
    """
    scalars: dict[str, str] = field(default_factory=dict)
    """Types of its plain numbers; i64 may be beyond 2³¹, for which Triton compiles anew."""
    streams: tuple[str, ...] = ("fp32", "T")
    """What S stands for: float32, as in training under autocast, and T, as in a model that is
    wholly of that dtype.
    """
    dtypes: tuple[str, ...] = ("bf16", "fp16")
    """What T stands for."""
    matrix: bool = True
    """Whether it multiplies matrices, and so must use tensor cores."""


def launch(kernel: str, device: torch.device, *sizes: int) -> dict[str, int]:
    """Tile sizes, warps and stages of the first option of `kernel` that is large enough for
    `sizes`, and what every launch is compiled with.
    """
    return choose(LAUNCHES[kernel][architecture(device)], *sizes) | COMPILED_WITH


def fits(kernel: str, device: torch.device, *sizes: int) -> bool:
    """Whether an option of `kernel` is large enough for `sizes`."""
    options = LAUNCHES[kernel][architecture(device)]
    return any(
        all(s <= limit for s, limit in zip(sizes, limits, strict=True)) for limits, _ in options
    )


def choose(options: list[Option], *sizes: int) -> dict[str, int]:
    """The first option that is large enough, else the last."""
    fitting = (
        tile
        for limits, tile in options
        if all(s <= limit for s, limit in zip(sizes, limits, strict=True))
    )
    return next(fitting, options[-1][1])


def architecture(device: torch.device) -> Architecture:
    """The entry of LAUNCHES for a device; the oldest for an interpreter on a CPU."""
    if device.type != "cuda" and not is_emulated():
        return 80
    if torch.version.hip is not None and not is_emulated():
        return "gfx942"
    version = capability(device)
    if version // 10 in (9, 10):
        return version // 10 * 10
    return 86 if version >= 86 else 80


def float32_precision(architecture: Architecture) -> str:
    """How float32 matrices are multiplied to about float32's precision: AMD's matrix units take
    them as they are.
    """
    return "ieee" if isinstance(architecture, str) else "tf32x3"
