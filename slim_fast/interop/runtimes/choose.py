"""Which runtime answers: each is compared with float32, and of several the fastest stays."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from slim_fast.errors import UserError
from slim_fast.interop.runtimes import onnx_session, openvino_model
from slim_fast.interop.runtimes.check import answer, find_problem, list_examples, make_clips
from slim_fast.interop.runtimes.programs import (
    KINDS,
    LIMITS,
    Kind,
    Program,
    Runtimes,
    programs_of,
)
from slim_fast.model.frozen import copied, expect_unfrozen, freeze
from slim_fast.training.machine import choose_dtype
from slim_fast.training.output import logger

if TYPE_CHECKING:
    from slim_fast.interop.people_encoder import PeopleEncoder

PRECISIONS = {
    "torch": ("bf16", "fp32"),
    "openvino": ("bf16", "fp32"),
    "onnxruntime": ("fp32", "int8"),
}
"""What each runtime computes in, the fastest first; int8 only when it is asked for."""
_LOADERS = {"openvino": openvino_model, "onnxruntime": onnx_session}
_ANSWERS = {"cls": "CLS", "last": "all tokens"}
_ROUNDS, _LEAST_SECONDS = 3, 0.15  # of a timing
_HOPELESS = 2
"""Times as slow as the fastest in a first run: such a side is not timed any further."""
AnyEncoder = TypeVar("AnyEncoder", bound="PeopleEncoder")


def check_choices(
    backend: str, precision: str, dtype: object, cuda_graphs: bool, calibration: Tensor | None
) -> None:
    """Check arguments of `SLiMEncoder.optimize`. Raises: UserError for those that do not fit."""
    given = {"backend": backend, "precision": precision}
    known = {"backend": ("auto", *PRECISIONS), "precision": ("auto", "fp32", "bf16", "int8")}
    for name, value in given.items():
        if value not in known[name]:
            raise UserError(f"optimize: {name}={value!r}; use {', '.join(known[name])}.")
    if isinstance(dtype, str) and dtype != "auto":
        raise UserError(f'optimize: dtype={dtype!r}; use torch.float32, torch.bfloat16 or "auto".')
    if dtype != "auto" and (backend, precision) != ("torch", "auto"):
        raise UserError(
            "optimize: dtype is PyTorch's: with a backend or a precision, leave it out."
        )
    if cuda_graphs and backend != "torch":
        raise UserError(f"optimize: cuda_graphs=True is PyTorch's: backend={backend!r} has none.")
    if (backend, precision) == ("torch", "int8"):
        raise UserError('optimize: torch does not compute in int8: use backend="onnxruntime".')
    if calibration is not None and precision != "int8":
        raise UserError(
            f'optimize: only precision="int8" is calibrated, and precision={precision!r}: leave '
            "calibration out."
        )


def optimize_with(
    encoder: AnyEncoder,
    backend: str,
    precision: str,
    clips: int | Tensor,
    calibration: Tensor | None = None,
) -> AnyEncoder:
    """See `SLiMEncoder.optimize`; backend: another than "torch"."""
    expect_unfrozen(encoder)
    candidates = _list_candidates(encoder, backend, precision)
    plain = copied(encoder).to(torch.float32).eval().requires_grad_(False)
    calibration = None if calibration is None else calibration.float()
    people = None if calibration is None else _present_people(plain, calibration)
    x = make_clips(plain, calibration, clips) if isinstance(clips, int) else clips.float()
    examples = list_examples(plain, x, calibration)
    fast, name = _make_torch(encoder, plain, examples, precision)
    sides = {name: Runtimes({}, {})} if backend == "auto" else {}
    programs = programs_of(plain, people)
    for runtime, precisions in candidates.items():
        refused = []
        for each in precisions:
            side, problem = _load(fast, plain, examples, programs, runtime, each)
            if not problem:
                sides[f"{runtime} {each}"] = side
                break
            refused.append(problem)
        if refused and not sides:
            raise UserError(f"optimize: {'; '.join(refused)}.")
        for problem in refused:
            logger.warning(f"optimize: {problem}; it is left out.")
    chosen = {kind: _choose(fast, sides, x, kind) for kind in KINDS}
    fast._runtimes = Runtimes.of({kind: sides[best] for kind, best in chosen.items()}, chosen)
    return fast


def _present_people(encoder: "PeopleEncoder", clips: Tensor) -> Tensor:
    """The people (N, T, V, C) of clips to calibrate on. Raises: UserError without any."""
    people = encoder._fold(clips, None, None).clips
    if not len(people):
        raise UserError("optimize: nobody is in the clips of calibration: give clips of people.")
    return people.contiguous()


def _list_candidates(
    encoder: "PeopleEncoder", backend: str, precision: str
) -> dict[str, tuple[str, ...]]:
    """The precisions to try of each runtime beside PyTorch. Raises: UserError where none can be."""
    asked = [backend] if backend != "auto" else list(_LOADERS)
    found = {}
    for name in asked:
        known: tuple[str, ...] = PRECISIONS[name]
        if precision != "auto":
            known = (precision,) if precision in known else ()
        elif choose_dtype("auto", torch.device("cpu")) != torch.bfloat16:
            known = tuple(each for each in known if each != "bf16")
        problem = _obstacle(encoder, name, precision, known)
        if not problem:
            found[name] = tuple(each for each in known if each != "int8" or precision == "int8")
        elif backend != "auto":
            raise UserError(f"optimize: {problem}.")
        else:
            logger.info(f"optimize: {problem}.")
    return found


def _obstacle(
    encoder: "PeopleEncoder", name: str, precision: str, precisions: tuple[str, ...]
) -> str:
    """Why a runtime can't answer for the encoder, in a sentence without its full stop, or ""."""
    device = encoder.pos_embed.device
    if device.type != "cpu":
        return f"{name} runs on the CPU, and the encoder is on {device}: move it first"
    if any(m._forward_hooks or m._forward_pre_hooks for m in encoder.modules()):
        return f"{name} calls no hooks: remove them first"
    if not precisions:
        return f"{name} does not compute in {precision}: choose {' or '.join(PRECISIONS[name])}"
    try:
        _LOADERS[name].require()
    except UserError as missing:
        return str(missing).rstrip(".")
    return ""


def _load(
    fast: "PeopleEncoder",
    plain: "PeopleEncoder",
    examples: Sequence[Tensor],
    programs: Mapping[Kind, Program],
    runtime: str,
    precision: str,
) -> tuple[Runtimes, str]:
    """The answers of a runtime, and what is wrong with them, without full stop, or ""."""
    name = f"{runtime} {precision}"
    loader = _LOADERS[runtime]
    try:
        runs = {kind: loader.load(programs[kind], precision) for kind in KINDS}
    except UserError as error:
        return Runtimes({}, {}), str(error).rstrip(".")
    names = dict.fromkeys(KINDS, name)
    fast._runtimes = Runtimes(runs, names)
    problem = find_problem(fast, plain, examples, precision)
    # PyTorch's own answers may be in bf16
    limits = dict.fromkeys(KINDS, LIMITS[precision] + LIMITS["bf16"])
    return (
        Runtimes(runs, names, limits),
        problem and f"{name} {problem}: choose another backend or precision",
    )


def _make_torch(
    encoder: AnyEncoder, plain: "PeopleEncoder", examples: Sequence[Tensor], precision: str
) -> tuple[AnyEncoder, str]:
    """The copy that PyTorch answers with, in the precision or the fastest that is near float32."""
    device = encoder.pos_embed.device
    dtype = choose_dtype(precision if precision != "int8" else "auto", device)
    for name, each in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        if dtype == torch.bfloat16 or each == torch.float32:
            fast = freeze(encoder, each)
            problem = find_problem(fast, plain, examples, name)
            if not problem:
                return fast, f"torch {name}"
            logger.warning(f"optimize: torch {name} {problem}; it is left out.")
    raise UserError("optimize: the encoder's answers are not finite: were its weights trained?")


def _choose(fast: "PeopleEncoder", sides: Mapping[str, Runtimes], x: Tensor, kind: Kind) -> str:
    """The side that answers x fastest; says so."""
    if len(sides) == 1:
        return next(iter(sides))

    def ask(runtimes: Runtimes) -> None:
        fast._runtimes = runtimes
        answer(fast, x, kind)

    seconds = time_sides({name: lambda side=side: ask(side) for name, side in sides.items()})  # type: ignore[misc]
    best = min(seconds, key=seconds.__getitem__)
    times = ", ".join(f"{name} {1e3 * each:.1f} ms" for name, each in seconds.items())
    logger.info(
        f"optimize: {_ANSWERS[kind]} of {len(x)} clips by {best} ({times}; "
        f"{torch.get_num_threads()} threads)."
    )
    return best


def time_sides(sides: Mapping[str, Callable[[], None]]) -> dict[str, float]:
    """Seconds a call of each side, the median of rounds in which all run in turn."""

    def burst(run: Callable[[], None], least: float) -> float:
        run()  # drives out of the caches what the others left
        begin, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - begin < least:
            run()
            count += 1
        return (time.perf_counter() - begin) / count

    first = {name: burst(run, 0) for name, run in sides.items()}
    kept = [name for name in sides if first[name] < _HOPELESS * min(first.values())]
    taken = [{name: burst(sides[name], _LEAST_SECONDS) for name in kept} for _ in range(_ROUNDS)]
    return first | {name: median(each[name] for each in taken) for name in kept}
