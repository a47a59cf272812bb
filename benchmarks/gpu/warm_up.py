"""Compile beforehand, in processes beside each other, what the timed sections would compile one
kernel after the other.

Triton and torch.compile keep what they compiled on disk, where the sections' processes find it.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed

import torch

from benchmarks.gpu.run import Run, first_line
from benchmarks.gpu.speed import DENSE, compiled
from benchmarks.suite.ops import CHECKED, PROBLEMS, TINY, Draw, prepare


def _compile(name: str, by_torch: bool, quick: bool) -> None:
    problem = PROBLEMS[name](TINY if quick else CHECKED, Draw(torch.device("cuda"), 0))
    prepare(problem, compiled(problem) if by_torch else problem.ours)()


def warm_up(run: Run) -> None:
    """Every op at sizes whose kernels are those of the larger ones, and torch.compile's rivals."""
    jobs = [(name, False) for name in PROBLEMS] + [(name, True) for name in DENSE]
    context = multiprocessing.get_context("spawn")
    workers = min(len(jobs), max(1, (os.cpu_count() or 1) // 2))
    with ProcessPoolExecutor(workers, context) as pool:
        found = {pool.submit(_compile, *job, run.quick): job for job in jobs}
        for future in as_completed(found):
            name, by_torch = found[future]
            error = future.exception()
            # the section that measures it will say so too
            note = "" if error is None else f"failed: {first_line(error)}"
            run.add(name, "torch.compile" if by_torch else "Triton", note=note)
