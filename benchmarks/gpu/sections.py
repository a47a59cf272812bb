"""Sections in processes of their own: one that crashes the GPU's context, or never ends, takes
nothing with it.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.gpu.run import Run
from benchmarks.records.gpu_rows import Row


@dataclass
class Outcome:
    """How a section ended."""

    failed: list[str] = field(default_factory=list)
    """Checks that failed, one line each."""
    errors: list[str] = field(default_factory=list)
    """What was raised or went wrong, one line each."""
    seconds: float = 0.0


def section_bodies() -> dict[str, Callable[[Run], None]]:
    """What each section does; imports triton, so only once the environment says how."""
    from benchmarks.gpu import correctness, drop_in, sanitizer, speed, step, warm_up

    return {
        "environment": speed.environment,
        "warm_up": warm_up.warm_up,
        "correctness": correctness.correctness,
        "determinism": correctness.determinism,
        "drop_in": drop_in.drop_in,
        "memory": speed.memory,
        "inference": step.inference,
        "step": step.step,
        "prototypes": speed.prototypes,
        "dense": speed.dense,
        "graph": step.graph,
        "attention": speed.attention,
        "embed": speed.embed,
        "update": speed.update,
        "sanitizer": sanitizer.sanitizer,
    }


def run_here(name: str, *, quick: bool, report: Callable[[Row], Any]) -> Outcome:
    """Run a section in this process, on the GPU or, under TRITON_INTERPRET=1, on the CPU."""
    os.environ["SLIM_KERNELS"] = "triton"
    device = torch.device("cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda")
    run, begin = Run(name, device, quick=quick, report=report), time.perf_counter()
    with warnings.catch_warnings(), run.attempt(name):
        # An op that fell back to PyTorch would be compared with itself.
        warnings.filterwarnings("error", message=".* has no Triton kernel for ")
        section_bodies()[name](run)
    return Outcome(run.failed, run.errors, time.perf_counter() - begin)


def _child(connection: Connection, name: str, quick: bool) -> None:
    connection.send(run_here(name, quick=quick, report=connection.send))


def run_apart(name: str, *, quick: bool, seconds: float, report: Callable[[Row], Any]) -> Outcome:
    """Run a section in a process of its own for at most `seconds`; its rows are reported as they
    come, so those before a crash are kept.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(theirs, name, quick))
    begin = time.perf_counter()
    child.start()
    theirs.close()  # so that the end of the child is the end of the pipe
    try:
        while ours.poll(max(0.0, begin + seconds - time.perf_counter())):
            message = ours.recv()
            if isinstance(message, Outcome):
                child.join()
                return message
            report(message)
        error = f"stopped after {seconds:,.0f} s"
    except EOFError:
        child.join()
        error = f"its process ended with {child.exitcode}"
    finally:
        child.kill()
        child.join()
    return Outcome(errors=[f"{name}: {error}"], seconds=time.perf_counter() - begin)
