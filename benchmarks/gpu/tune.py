"""python -m benchmarks.gpu.tune KERNEL: which tile sizes, warps and stages a kernel of
slim_kernels.runtime.launch should have.

Compiles every candidate ahead of time, without a GPU, and drops what spills, needs too much
shared memory or multiplies without tensor cores. On a CUDA GPU the sound ones are then timed in the
op that uses the kernel, forward and backward, and shown fastest first with the line for LAUNCHES.
"""

import argparse
import dataclasses
import itertools
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from slim_kernels.runtime.launch import LAUNCHES, Architecture, architecture, choose

from benchmarks.records.recorder import quartiles

PROCESSES = 2
# Tried where --grid does not say otherwise.
GRID: dict[str, tuple[int, ...]] = {
    "BM": (16, 32, 64, 128),
    "BN": (32, 64, 128),
    "BF": (32, 64, 128),
    "BLOCKS": (4, 8, 16, 32),
    "EARLY": (0, 1, 2),
    "num_warps": (4, 8),
    "num_stages": (1, 2, 3),
}
# The ops of benchmarks.suite.ops that launch a kernel.
OPS = {
    "attention_forward": "packed_attention",
    "attention_forward_whole": "packed_attention",
    "attention_backward_whole": "packed_attention",
    "attention_backward_queries": "packed_attention",
    "attention_backward_keys": "packed_attention",
    "linear": "norm_linear",
    "norm_backward": "norm_linear",
    "norm_swiglu": "norm_swiglu",
    "norm_swiglu_backward": "norm_swiglu",
    "embed": "embed_tokens",
    "embed_backward": "embed_tokens",
    "attend": "prototype_loss",
    "log_sum_exp": "prototype_loss",
}
Tile = dict[str, int]


def compile_candidate(job: tuple[str, Architecture, str, tuple[int, ...], Tile]) -> tuple[str, str]:
    """The worst usage over all variants of a candidate, and why it must not be taken, or ""."""
    from slim_kernels.check import cases_of, compile_case

    kernel, target, dtype, sizes, tile = job
    usages, faults = [], []
    for case in cases_of(kernel, target, dtype, sizes, tile):
        try:
            usage = compile_case(case)
        except Exception as error:  # whatever the compiler says is what the table shows
            return " " * 24, f"does not compile: {error!s:.100}".replace("\n", " ")
        usages.append(usage)
        faults.append(usage.fault(case))
    worst = [max(getattr(u, name) for u in usages) for name in ("registers", "spilled", "shared")]
    tensor_core = min(u.tensor_core for u in usages)
    return "{:>5}{:>6}{:>8}{:>5}".format(*worst, tensor_core), next(filter(None, faults), "")


def make_candidates(
    kernel: str, target: Architecture, given: dict[str, tuple[int, ...]]
) -> Iterator[Tile]:
    """All combinations of the kernel's tile sizes, warps and stages."""
    names = LAUNCHES[kernel][target][0][1]
    values = [given.get(name, GRID[name]) for name in names]
    return (
        dict(zip(names, combination, strict=True)) for combination in itertools.product(*values)
    )


def sound_candidates(
    kernel: str, target: Architecture, dtype: str, sizes: tuple[int, ...], tiles: list[Tile]
) -> list[Tile]:
    """Compile and print every candidate; returns those that may be taken."""
    print(f"{'candidate':<56}{'regs':>5}{'spill':>6}{'shared':>8}{'mma':>5}")
    jobs = [(kernel, target, dtype, sizes, tile) for tile in tiles]
    sound = []
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        for tile, (usage, fault) in zip(tiles, pool.imap(compile_candidate, jobs), strict=True):
            print(f"{describe(tile):<56}{usage}  {fault}", flush=True)
            sound += [] if fault else [tile]
    return sound


def describe(tile: Tile) -> str:
    return " ".join(f"{name}={value}" for name, value in tile.items())


def find_limits(kernel: str, target: Architecture, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Of the option on file that is taken for these sizes."""
    options = LAUNCHES[kernel][target]
    chosen = choose(options, *sizes)
    return next(bounds for bounds, tile in options if tile is chosen)


def time_candidates(
    kernel: str,
    target: Architecture,
    sizes: tuple[int, ...],
    tiles: list[Tile],
    device: torch.device,
) -> None:
    """Time the op with each candidate, interleaved, and print them fastest first."""
    from benchmarks.gpu.timing import Timer
    from benchmarks.suite.ops import PREFIX, PROBLEMS, TIMED, Draw, prepare
    from slim_fast.views.pipeline import PATCH_FRAMES

    bounds, timed = find_limits(kernel, target, sizes), TIMED
    if kernel.startswith("attention"):  # the sequences that this option is for
        longest, head = sizes
        below = [b[0] for b, _ in LAUNCHES[kernel][target] if b[0] < bounds[0]]
        lengths = {view: PREFIX + view[1] // PATCH_FRAMES * TIMED.joints for view in TIMED.views}
        views = tuple(
            view for view, length in lengths.items() if max(below, default=0) < length <= longest
        )
        timed = dataclasses.replace(TIMED, views=views or TIMED.views, width=TIMED.heads * head)
    else:
        timed = dataclasses.replace(TIMED, width=sizes[0])
    problem = PROBLEMS[OPS[kernel]](timed, Draw(device, 0))
    op = prepare(problem, problem.ours)

    def with_tile(tile: Tile) -> Callable[[], Any]:
        def run() -> None:
            with mock.patch.dict(LAUNCHES[kernel], {target: [(bounds, tile)]}):
                op()

        return run

    sides = {}
    for tile in tiles:
        try:
            with_tile(tile)()
            sides[describe(tile)] = with_tile(tile)
        except Exception as error:  # sound alone, but not in this op: say so and go on
            print(
                f"{describe(tile):<56}  {type(error).__name__}: {error!s:.100}".replace("\n", " ")
            )
    if not sides:
        return
    times = {
        name: quartiles(ms) for name, ms in Timer(device, seconds=0.05 * len(sides))(sides).items()
    }
    on_file = describe(choose(LAUNCHES[kernel][target], *sizes))
    print(
        f"\n{OPS[kernel]} forward and backward on {torch.cuda.get_device_name()}, "
        f"{timed.tokens:,} tokens, ms:"
    )
    for name in sorted(times, key=lambda name: times[name][1]):
        low, middle, high = times[name]
        print(
            f"{name:<56}{middle:>9.4f} "
            f"({low:.4f}–{high:.4f}){'  on file' if name == on_file else ''}"
        )
    best = next(
        tile for tile in tiles if describe(tile) == min(times, key=lambda name: times[name][1])
    )
    print(f"\nfor LAUNCHES[{kernel!r}][{target!r}]: ({bounds}, {tuple(best.values())})")


def parse_values(text: str) -> tuple[str, tuple[int, ...]]:
    """NAME=1,2,3 as (NAME, (1, 2, 3))."""
    name, _, numbers = text.partition("=")
    if name not in GRID:
        raise argparse.ArgumentTypeError(f"{name!r} is not known; use {', '.join(GRID)}")
    return name, tuple(int(number) for number in numbers.split(","))


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.tune", description=__doc__)
    parser.add_argument("kernel", choices=sorted(LAUNCHES), help="which one")
    parser.add_argument(
        "--width", type=int, default=256, help="features of a row; for kernels on rows"
    )
    parser.add_argument("--longest", type=int, default=1024, help="longest sequence; for attention")
    parser.add_argument("--head", type=int, default=32, help="features of a head; for attention")
    parser.add_argument(
        "--architecture",
        type=lambda name: int(name) if name.isdigit() else name,
        choices=list(LAUNCHES["linear"]),
        help="default: the GPU's, else 90",
    )
    parser.add_argument(
        "--dtype", choices=("bf16", "fp16"), default="bf16", help="of the matrix products"
    )
    parser.add_argument(
        "--grid",
        type=parse_values,
        action="append",
        default=[],
        metavar="NAME=A,B",
        help=f"values to try of {', '.join(GRID)} (may be repeated)",
    )
    options = parser.parse_args(arguments)
    if os.environ.get("TRITON_INTERPRET") == "1":
        print(
            "error: Triton's interpreter compiles nothing; unset TRITON_INTERPRET.", file=sys.stderr
        )
        return 2
    here = architecture(torch.device("cuda")) if torch.cuda.is_available() else None
    target = options.architecture or here or 90
    sizes = (
        (options.longest, options.head)
        if options.kernel.startswith("attention")
        else (options.width,)
    )
    tiles = list(make_candidates(options.kernel, target, dict(options.grid)))
    sound = sound_candidates(options.kernel, target, options.dtype, sizes, tiles)
    print(f"{len(sound)} of {len(tiles)} candidates are sound")
    if here != target:
        print(
            "no timings: there is no CUDA GPU"
            + ("" if here is None else f" of architecture {target}")
            + " here"
        )
    elif sound:
        os.environ["SLIM_KERNELS"] = "triton"
        time_candidates(options.kernel, target, sizes, sound, torch.device("cuda"))
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
