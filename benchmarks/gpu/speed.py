"""How fast and how lean the ops are, beside what PyTorch offers for the same."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial

import numpy as np
import torch
from slim_kernels.cost.problems import problems as cost_problems
from torch import Tensor

from benchmarks.gpu import timing
from benchmarks.gpu.correctness import relative_error
from benchmarks.gpu.record import query_driver
from benchmarks.gpu.run import Run, first_line
from benchmarks.records.recorder import quartiles
from benchmarks.suite import attention_baselines
from benchmarks.suite.ops import (
    PROBLEMS,
    TIMED,
    TINY,
    Draw,
    Problem,
    Sizes,
    prepare,
    prototype_loss,
)
from slim_fast.model.slim import ModelConfig, Network

BOTH = "forward and backward"
DENSE = ("norm_swiglu", "norm_linear", "linear_residual")
# Two right answers in bf16 differ by less, wrong ones by more.
SAME = 0.05
MOST_ROWS = 107_520  # masked tokens of 768 samples


def timed_sizes(run: Run) -> Sizes:
    return TINY if run.quick else TIMED


def environment(run: Run) -> None:
    """The two ceilings of this GPU, and its clocks while it multiplies."""
    run.add("matrix product", "bf16", run.ceiling, unit="TFLOP/s")
    run.add("copy", "read and written", run.bandwidth, unit="TB/s")
    a = torch.randn(8192, 8192, device=run.device, dtype=torch.bfloat16)
    for _ in range(1 if run.quick else 500):  # a second or so, in which the driver is asked
        a @ a
    for name, unit in (("clocks.sm", "MHz"), ("clocks.mem", "MHz"), ("power.draw", "W")):
        value = query_driver(name)
        run.add(name, "while it multiplies", float(value) if value else None, unit=unit)


def add_floor(run: Run, op: str, times: Mapping[str, list[float]]) -> None:
    """The share of an op's floor that ours reaches: the operations it can't do without at the rate
    of a large matrix product, or its bytes at that of a copy, whichever takes longer.
    """
    if run.quick:
        return
    rate, bandwidth = 1e12 * run.ceiling[1], 1e12 * run.bandwidth[1]
    floor = sum(
        1e3 * max(operations / rate, size / bandwidth)
        for problem in cost_problems(TIMED.samples, (TIMED.rows,))
        for operations, size in problem.floors.values()
        if problem.op == op
    )
    share = quartiles(floor / np.array(times["ours"]))
    note = "floor over time" + ("; without `visible`" if op == "packed_attention" else "")
    fields = {"baseline": floor, "unit": "ms", "ratio": share, "note": note}
    run.add(op, f"{BOTH}, share of the floor", quartiles(times["ours"]), **fields)


def memory(run: Run) -> None:
    """Peaks of ours and of eager PyTorch."""
    for name, build in PROBLEMS.items():
        if name.startswith("prototype_loss"):  # its eager side may not fit: see `prototypes`
            continue
        with run.attempt(name):
            problem = build(timed_sizes(run), Draw(run.device, 0))
            mine, theirs = (
                timing.peak_bytes(prepare(problem, side)) / 1e6
                for side in (problem.ours, problem.eager)
            )
            ratio = mine / max(theirs, 1e-6)
            run.add(name, BOTH, mine, baseline=theirs, unit="MB", ratio=ratio)


def compare(
    run: Run,
    op: str,
    problem: Problem,
    rivals: dict[str, Callable[[], Callable[..., Tensor]]],
    targets: dict[str, float],
    best: float | None = None,
) -> None:
    """Time ours against each rival that works and computes the same.

    targets: by rival; best: against the fastest of them.
    """
    sides: dict[str, Callable[[], object]] = {"ours": prepare(problem, problem.ours)}
    want = prepare(problem, problem.ours)()
    for name, make in rivals.items():
        what = f"{BOTH}, {name}"
        try:
            side = prepare(problem, make())
            error = max(relative_error(got, want[key]) for key, got in side().items())
            if not error < SAME:
                raise RuntimeError(f"computes something else (relative error {error:.2g})")
            sides[name] = side
        except Exception as error:  # a rival may be missing in this PyTorch: the others stand
            run.add(op, what, note=f"skipped: {first_line(error)}")
    del want
    times = run.timer(sides)
    add_floor(run, op, times)
    working = [name for name in sides if name != "ours"]
    for name in working:
        run.add_times(op, f"{BOTH}, {name}", times, name, target=targets.get(name))
    if best is not None:
        if not working:
            raise RuntimeError("no baseline works")
        name = min(working, key=lambda name: quartiles(times[name])[1])
        run.add_times(op, f"{BOTH}, best baseline", times, name, target=best, note=name)


def compiled(problem: Problem) -> Callable[..., Tensor]:
    torch.compiler.reset()
    return torch.compile(problem.eager, dynamic=False)


def attention(run: Run) -> None:
    """Against every way PyTorch has of attending within sequences of several lengths."""
    sizes = timed_sizes(run)
    problem = PROBLEMS["packed_attention"](sizes, Draw(run.device, 0))
    packed = sizes.pack(run.device)
    rivals = {
        name: partial(make, packed, sizes.width // sizes.heads)
        for name, make in attention_baselines.BASELINES.items()
    }
    compare(run, "packed_attention", problem, rivals, {}, best=1.5)


def dense(run: Run) -> None:
    """Against eager PyTorch and its compilation."""
    targets = {"norm_swiglu": {"eager": 1.5, "torch.compile": 1.2}}
    for name in DENSE:
        with run.attempt(name):
            problem = PROBLEMS[name](timed_sizes(run), Draw(run.device, 0))
            rivals = {
                "eager": lambda p=problem: p.eager,
                "torch.compile": partial(compiled, problem),
            }
            compare(run, name, problem, rivals, targets.get(name, {}))


def embed(run: Run) -> None:
    problem = PROBLEMS["embed_tokens"](timed_sizes(run), Draw(run.device, 0))
    compare(run, "embed_tokens", problem, {"eager": lambda: problem.eager}, {"eager": 3.0})


def halves(number: int) -> Iterator[int]:
    """number, number / 2, ... down to 1."""
    while number:
        yield number
        number //= 2


def prototypes(run: Run) -> None:
    """At the largest number of rows that the eager side fits; then ours alone at a step's."""
    full = timed_sizes(run)
    for rows in halves(full.rows):
        sides = _prototype_sides(run, rows)
        torch.cuda.empty_cache()
        with suppress(torch.OutOfMemoryError):
            peaks = {"eager": timing.peak_bytes(sides["eager"]) / 1e6}
            break
    note = f"N = S = {rows:,}, K = {full.prototypes:,}" + (
        "" if rows == full.rows else f": eager does not fit {full.rows:,}"
    )
    peaks |= {name: timing.peak_bytes(sides[name]) / 1e6 for name in ("stored", "streamed")}
    times = run.timer(sides)
    for name, most, least in (("stored", None, 3.0), ("streamed", 1 / 20, None)):
        share = peaks[name] / peaks["eager"]
        fields = {"baseline": peaks["eager"], "unit": "MB", "ratio": share, "note": note}
        run.add(
            "prototype_loss",
            f"peak memory, {name}",
            peaks[name],
            **fields,
            target=most,
            at_most=True,
        )
        what = f"{BOTH}, {name}"
        run.add_times("prototype_loss", what, times, "eager", name, target=least, note=note)
    add_floor(run, "prototype_loss", {"ours": times["stored"]})
    del sides
    rows = full.rows if run.quick else MOST_ROWS
    sides = _prototype_sides(run, rows)
    del sides["eager"]
    for name, own in run.timer(sides).items():
        note = f"N = S = {rows:,}, K = {full.prototypes:,}, ours alone"
        what = f"{BOTH}, {name}, a step's rows"
        run.add("prototype_loss", what, quartiles(own), unit="ms", note=note)


def _prototype_sides(run: Run, rows: int) -> dict[str, Callable[[], object]]:
    sizes = dataclasses.replace(timed_sizes(run), rows=rows)
    stored, streamed = (
        prototype_loss(sizes, Draw(run.device, 0), budget=budget) for budget in (None, 0)
    )
    return {
        "stored": prepare(stored, stored.ours),
        "streamed": prepare(streamed, streamed.ours),
        "eager": prepare(stored, stored.eager),
    }


def update(run: Run) -> None:
    """On tensors of the student's shapes."""
    config = ModelConfig()
    with torch.device("meta"):
        shapes = [p.shape for p in Network(config, 25, 3).parameters()]
    if run.quick:
        shapes = shapes[:8]
    draw = Draw(run.device, 0)
    student, teacher = ([draw(*shape) for shape in shapes] for _ in range(2))
    flat_student, flat_teacher = (
        torch.cat([p.flatten() for p in side]) for side in (student, teacher)
    )
    note = f"{len(shapes)} tensors, {flat_student.numel():,} numbers"
    pairs: dict[str, dict[str, Callable[[], object]]] = {
        "teacher average": {
            "ours": lambda: torch._foreach_lerp_(teacher, student, 0.006),
            "flat": lambda: flat_teacher.lerp_(flat_student, 0.006),
        },
        "AdamW(fused=True)": {
            "ours": _adamw(student, draw).step,
            "flat": _adamw([flat_student], draw).step,
        },
    }
    for op, sides in pairs.items():
        run.add_times(op, "multi-tensor, flat buffer", run.timer(sides), "flat", note=note)


def _adamw(tensors: list[Tensor], draw: Draw) -> torch.optim.Optimizer:
    parameters = [torch.nn.Parameter(x.clone()) for x in tensors]
    for p in parameters:
        p.grad = draw(*p.shape)
    return torch.optim.AdamW(parameters, lr=1e-6, fused=True)
