"""What is compiled: every launch on file for every device that takes it, with every set of
constants and types that the ops launch it with.
"""

import importlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from slim_kernels.runtime.launch import (
    LAUNCHES,
    Architecture,
    KernelSpec,
    choose,
    float32_precision,
)

# The packages of kernels: adding one to the table compiles its launches.
OPS = (
    "attention.triton_kernels",
    "attention.triton_whole",
    "embed_tokens.triton_kernels",
    "feed_forward.triton_kernels",
    "linear.triton_kernels",
    "prototype_loss.triton_kernels",
    "prototype_loss.triton_sweeps",
    "runtime.triton_layer_norm",
    "tube_masks.triton_kernels",
)
KERNELS: dict[str, KernelSpec] = {
    name: spec
    for op in OPS
    for name, spec in importlib.import_module(f"slim_kernels.{op}").KERNELS.items()
}


@dataclass(frozen=True)
class Device:
    """A kind of GPU that launches are compiled for."""

    entry: Architecture
    """Of LAUNCHES, whose launches it takes."""
    shared_kb: int
    """Shared memory that a block may have."""
    alike: bool = False
    """Compiled like another one with this entry, so that a look at the largest sizes is enough."""


DEVICES: dict[Architecture, Device] = {
    80: Device(80, 163),
    86: Device(86, 99),
    89: Device(86, 99, alike=True),
    90: Device(90, 227),
    100: Device(100, 227),
    120: Device(86, 99),
    "gfx942": Device("gfx942", 64),
    "gfx90a": Device("gfx942", 64, alike=True),
}


@dataclass(frozen=True)
class Case:
    """One kernel with one launch on one device."""

    kernel: str
    architecture: Architecture
    dtype: str
    types: dict[str, str]
    constants: dict[str, Any]
    warps: int
    stages: int
    wide: bool = False
    """Numbers beyond 2³¹ where they may be so large, and tensors beyond 2 GB, which AMD's kernels
    address otherwise.
    """

    def pointer(self, name: str) -> str:
        """What an argument points at, by Triton's name."""
        return self.types[name].replace("T", self.dtype)

    def source(self) -> str:
        """What is compiled: the same for cases that differ only in a dtype that they do not use."""
        types = {name: self.pointer(name) for name in self.types}
        return repr(replace(self, types=types, dtype=""))

    def __str__(self) -> str:
        constants = " ".join(
            f"{name}={value}" for name, value in self.constants.items() if name != "PRECISION"
        )
        stream = self.pointer(
            next(n for n in ("residual", "x", "qkv", "values", "logits", "keys") if n in self.types)
        )
        constants += " wide" * self.wide
        return (
            f"{self.kernel:<27}{self.architecture!s:>6} {self.dtype:<5}{stream:<7}{constants:<77}"
        )


def cases(dtypes: tuple[str, ...] = ("bf16", "fp16"), *, every: bool = False) -> Iterator[Case]:
    """Launches as devices take them, at every size; `every`: with every set of constants and types.

    Otherwise, for that takes six times as long, each set of constants and each of types once at the
    largest sizes of each launch, with padded rows and without, where registers and shared memory
    are most; at smaller sizes, and on devices that are compiled like others, one of each, another
    one each time.
    """
    for name, number in itertools.product(LAUNCHES, range(len(DEVICES))):
        architecture, device = list(DEVICES.items())[number]
        kernel, options = KERNELS[name], LAUNCHES[name][device.entry]
        tiles = {s: choose(options, *s) for s in itertools.product(*kernel.sizes)}
        types = _types(kernel, dtypes)
        for place, (sizes, tile) in enumerate(tiles.items() if types else ()):
            if every:
                for dtype in dtypes:
                    yield from cases_of(name, architecture, dtype, sizes, tile)
                continue
            largest = _largest(sizes, [other for other in tiles if tiles[other] is tile])
            if device.alike and not largest:
                continue
            constants = _constants(kernel, architecture, sizes)
            count = max(len(types), len(constants)) if largest and not device.alike else 1
            shift = number + place
            turn = shift + shift // len(types)  # so that pairs differ from size to size
            for n in range(count):
                pair = types[(n + shift) % len(types)], constants[(n + turn) % len(constants)]
                yield _case(name, architecture, *pair, tile)


def cases_of(
    name: str, architecture: Architecture, dtype: str, sizes: tuple[int, ...], tile: dict[str, int]
) -> Iterator[Case]:
    """A launch of one kernel, `tile`, with every set of constants and dtypes it is meant for at
    these sizes.
    """
    kernel = KERNELS[name]
    for types, constants in itertools.product(
        _types(kernel, (dtype,)), _constants(kernel, architecture, sizes)
    ):
        yield _case(name, architecture, types, constants, tile)


def _largest(sizes: tuple[int, ...], others: list[tuple[int, ...]]) -> bool:
    """Whether none of the others, padded as these or not as these, is larger in all respects."""
    padded = any(size & (size - 1) for size in sizes)
    return not any(
        other != sizes
        and all(o >= s for o, s in zip(other, sizes, strict=True))
        and any(o & (o - 1) for o in other) == padded
        for other in others
    )


def _types(kernel: KernelSpec, dtypes: tuple[str, ...]) -> list[tuple[str, str]]:
    """What T and S stand for."""
    return list(itertools.product((d for d in dtypes if d in kernel.dtypes), kernel.streams))


def _constants(
    kernel: KernelSpec, architecture: Architecture, sizes: tuple[int, ...]
) -> list[tuple[dict[str, Any], bool]]:
    """All but the tile sizes, and whether numbers and tensors are large, which changes what Triton
    compiles only where a number may be that large, and on AMD.
    """
    both = isinstance(architecture, str) or "i64" in kernel.scalars.values()
    return list(itertools.product(kernel.variants(*sizes), (False, True) if both else (False,)))


def _case(
    name: str,
    architecture: Architecture,
    types: tuple[str, str],
    constants: tuple[dict[str, Any], bool],
    tile: dict[str, int],
) -> Case:
    (dtype, stream), (variant, wide) = types, constants
    kinds = KERNELS[name].types | {key: kind for key, kind in variant.items() if key.islower()}
    values = {key: value for key, value in variant.items() if not key.islower()}
    values |= {key: value for key, value in tile.items() if not key.startswith("num_")}
    if values.get("PRECISION") == "tf32x3":
        values["PRECISION"] = float32_precision(architecture)
    return Case(
        name,
        architecture,
        dtype,
        {key: stream if kind == "S" else kind for key, kind in kinds.items()},
        values,
        tile["num_warps"],
        tile["num_stages"],
        wide,
    )


def sample() -> list[Case]:
    """One case of each kernel on every third device, always the same, with other constants and
    types each time; small sizes, which are compiled faster, more often than large ones.
    """
    groups: dict[tuple[str, Architecture], list[Case]] = {}
    for case in cases(every=True):
        groups.setdefault((case.kernel, case.architecture), []).append(case)
    kernels, devices = (list(dict.fromkeys(column)) for column in zip(*groups, strict=True))
    chosen: list[Case] = []
    for (kernel, device), group in groups.items():
        # the next kernel is compiled for the next devices
        if (kernels.index(kernel) + devices.index(device)) % 3 == 0:
            group.sort(key=lambda case: case.constants.get("D", 0))  # else in their order
            place = 0.618 * (len(chosen) + 1) % 1  # steps by the golden ratio are spread evenly
            chosen.append(group[int(place**2 * len(group))])
    return chosen
