"""Time and memory on a GPU."""

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from benchmarks.records.recorder import quartiles

WARM_UP = 2
LEAST_ROUNDS, MOST_ROUNDS = 5, 100
# About a millisecond: the host gets ahead, so that a run is timed without the gaps between its
# launches.
LEAD_CYCLES = 2_000_000
# Several times the L2: a run finds none of its data there.
FLUSHED = 4


class Timer:
    """Times with events on the device, the L2 flushed before each run; `seconds`: about how long a
    comparison takes.
    """

    def __init__(self, device: torch.device, seconds: float) -> None:
        size = FLUSHED * torch.cuda.get_device_properties(device).L2_cache_size
        self._flush, self._seconds = torch.empty(size, dtype=torch.int8, device=device), seconds

    def __call__(self, sides: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
        """Milliseconds of each side's runs, interleaved, in the order they were run."""
        for run in sides.values():
            for _ in range(WARM_UP):
                run()
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for run in sides.values():
            run()
        torch.cuda.synchronize()
        rounds = int(self._seconds / (time.perf_counter() - begin))
        events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {
            name: [] for name in sides
        }
        for _ in range(min(max(rounds, LEAST_ROUNDS), MOST_ROUNDS)):
            for name, run in sides.items():
                self._flush.zero_()
                torch.cuda._sleep(LEAD_CYCLES)
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                run()
                end.record()
                events[name].append((start, end))
        torch.cuda.synchronize()
        return {
            name: [start.elapsed_time(end) for start, end in pairs]
            for name, pairs in events.items()
        }


def faster(ours: list[float], baseline: list[float]) -> list[float]:
    """Quartiles of how many times faster ours is, round by round."""
    return quartiles(np.divide(baseline, ours))


def wall_seconds(run: Callable[[], object], rounds: int) -> list[float]:
    """Seconds of each round on the host's clock, its work on the device included."""
    seconds = []
    for number in range(-WARM_UP, rounds):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        run()
        torch.cuda.synchronize()
        if number >= 0:
            seconds.append(time.perf_counter() - begin)
    return seconds


def peak_bytes(run: Callable[[], object], above: int | None = None) -> int:
    """Peak of allocated memory in one run (the second), above what was allocated before it or above
    a given level.
    """
    run()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated() if above is None else above
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def matmul_rate(timer: Timer, device: torch.device, size: int) -> list[float]:
    """Quartiles of the TFLOP/s of a bf16 matmul of two random (size, size) matrices."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = timer({"matmul": lambda: a @ b})["matmul"]
    return quartiles(2 * size**3 / np.array(times) / 1e9)


def copy_rate(timer: Timer, device: torch.device, size: int) -> list[float]:
    """Quartiles of the TB/s, read plus written, of a copy of `size` bytes."""
    source = torch.randint(-128, 128, (size,), device=device, dtype=torch.int8)
    target = torch.empty_like(source)
    times = timer({"copy": lambda: target.copy_(source)})["copy"]
    return quartiles(2 * size / np.array(times) / 1e9)
