"""The ops at the recipe's sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from unittest import mock

import torch

from slim_kernels.cost import builds
from slim_kernels.cost.builds import (
    HIDDEN,
    JOINTS,
    PATCH,
    PREFIX,
    PROTOTYPES,
    VIEWS,
    WIDTH,
    Run,
    Sequences,
)
from slim_kernels.prototype_loss import LOGITS_BUDGET

ROWS, LAYERS, BATCH, MASKED = 26_880, 8, 768, 140
COLUMN_SPLITS = 16  # of a stored matrix of PROTOTYPES columns: triton_passes.ENOUGH_SWEEPS / 64


def length(frames: int) -> int:
    """Tokens of a view."""
    return PREFIX + frames // PATCH * JOINTS


TOKENS = BATCH * sum(count * length(frames) for frames, count in VIEWS.items())
ROW_OPS = ("norm_linear", "linear_residual", "norm_swiglu")
ONCE = {"forward": 1.0, "backward": 1.0}
# forward passes: student and teacher, per student token
FORWARD = 1 + BATCH * VIEWS[64] * length(64) / TOKENS


@dataclass(frozen=True)
class Problem:
    """An op at the recipe's sizes."""

    op: str
    case: str
    sizes: tuple[int, ...]
    """What it has so many of: tokens, sequences, rows and prototypes, ..."""
    small: tuple[tuple[int, int], ...]
    """Two small values of each size, whole tiles of every launch."""
    build: Callable[..., Run]
    """The op at given sizes."""
    floors: dict[str, tuple[float, float]]
    """pass -> floating-point operations, and bytes of DRAM, that it can't do without."""
    calls: Mapping[str, float]
    """pass -> calls of one training step."""
    constants: dict[str, int | None] = field(default_factory=dict)
    """Constants of the op's plan that have another value while it runs at small sizes: the name,
    and which of `sizes` is the value, or None: 1.
    """
    kind: str = ""
    """Which of several ways to compute the op this is."""

    @contextmanager
    def planned(self, sizes: tuple[int, ...]) -> Iterator[None]:
        """While it is open, the constants are what `sizes` say."""
        with ExitStack() as stack:
            for target, place in self.constants.items():
                stack.enter_context(mock.patch(target, 1 if place is None else sizes[place]))
            yield


def prototype_problem(rows: int, kind: str, calls: float = 1, shared: bool = False) -> Problem:
    """The loss at so many teacher rows. kind: stored, streamed or eager; shared: see
    `builds.prototype_loss`.
    """
    # teacher's and student's logits, and two products of their gradients
    students = 5 * rows if shared else rows
    operations = (rows + 3 * students) * 2.0 * PROTOTYPES * WIDTH
    moved = 4.0 * WIDTH * (rows + 2 * students + 3 * PROTOTYPES)
    passes = "slim_kernels.prototype_loss.triton_passes"
    budget = {"stored": LOGITS_BUDGET, "streamed": 0, "eager": None}[kind]
    return Problem(
        "prototype_loss",
        f"{rows:,} x {PROTOTYPES:,} {kind}",
        (rows, PROTOTYPES, COLUMN_SPLITS),
        ((128, 256), (1024, 2048) if kind == "stored" else (128, 256), (1, 2)),
        builds.prototype_loss(budget, shared),
        {"forward": (operations, moved), "backward": (0.0, 0.0)},
        dict.fromkeys(("forward", "backward"), calls),
        {f"{passes}.MOST_SPLITS": None, f"{passes}.MOST_PARTS": 2},
        kind,
    )


def row_problem(
    op: str, tokens: int, calls: Mapping[str, float] = ONCE, stream: torch.dtype = torch.float32
) -> Problem:
    """norm_linear, linear_residual or norm_swiglu of so many tokens, the residual stream in its
    own dtype.
    """
    d, f, wide = WIDTH, HIDDEN, stream.itemsize
    # multiply-adds of a token forward and backward, its bytes forward and backward
    build, products, again, ins, back = {
        "norm_linear": (
            builds.norm_linear,
            3 * d * d,
            6 * d * d,
            6 * d + wide * d,
            6 * d + 3 * wide * d,
        ),
        "linear_residual": (
            builds.linear_residual,
            d * d,
            2 * d * d,
            2 * d * (1 + wide),
            d * (4 + wide),
        ),
        "norm_swiglu": (builds.norm_swiglu, 3 * d * f, 8 * d * f, 2 * d * wide, 3 * d * wide),
    }[op]
    floors = {
        "forward": (2.0 * products * tokens, float(ins * tokens)),
        "backward": (2.0 * again * tokens, float(back * tokens)),
    }
    return Problem(
        op,
        f"{tokens:,} tokens",
        (tokens,),
        ((128, 256),),
        lambda count: build(count, stream),
        floors,
        calls,
    )


def attention_problem(
    kinds: tuple[Sequences, ...], samples: int, calls: Mapping[str, float] = ONCE
) -> Problem:
    """packed_attention of sequences of these kinds."""
    scores = sum(2.0 * k.number * k.tokens * (k.keys or k.tokens) for k in kinds) * WIDTH * samples
    total = sum(k.number * k.tokens for k in kinds) * WIDTH * samples
    return Problem(
        "packed_attention",
        ", ".join(f"{k.number * samples:,} of {k.tokens}" for k in kinds),
        (samples,),
        ((1, 2),),
        builds.attention(kinds),
        {"forward": (2 * scores, 8.0 * total), "backward": (5 * scores, 16.0 * total)},
        calls,
    )


def embed_problem(batch: int) -> Problem:
    """embed_tokens of the views of so many samples."""
    tokens = TOKENS // BATCH * batch
    patches = tokens - PREFIX * batch * sum(VIEWS.values())
    least = 2.0 * 3 * PATCH * WIDTH * patches, 4.0 * 3 * PATCH * patches + 4.0 * WIDTH * tokens
    return Problem(
        "embed_tokens",
        f"{tokens:,} tokens",
        (batch, 256),
        ((4, 8), (2, 4)),
        builds.embed_tokens,
        {"forward": least, "backward": least},
        {"forward": FORWARD, "backward": 1},
        {"slim_kernels.embed_tokens.triton.MOST_PROGRAMS": 1},
    )


def tube_problem(rows: int, times: int, joints: int) -> Problem:
    """tube_masks of so many views. How many tubes a mask takes is drawn: counts are of 64."""
    return Problem(
        "tube_masks",
        f"{rows:,} of {times} x {joints}",
        (rows,),
        ((32, 64),),
        builds.tube_masks(times, joints),
        {"forward": (0.0, float(rows * times * joints))},
        {"forward": 1.0},
    )


def problems(batch: int = BATCH, rows: tuple[int, ...] = (ROWS,)) -> list[Problem]:
    """All ops of a training step of `batch` samples; the prototype loss at each number of rows, in
    one chunk of the student's logits.

    Streams are float32 and products bfloat16, as under autocast.
    """
    tokens = TOKENS // BATCH * batch
    calls = {"forward": LAYERS * FORWARD, "backward": LAYERS}
    found = [row_problem(op, tokens, calls) for op in ROW_OPS]
    for frames, count in VIEWS.items():
        again = {"forward": LAYERS * (2 if frames == max(VIEWS) else 1), "backward": LAYERS}
        found.append(attention_problem((Sequences(1, length(frames)),), count * batch, again))
    found.append(embed_problem(batch))
    views = batch * sum(VIEWS.values())
    found.append(tube_problem(views, max(VIEWS) // PATCH, JOINTS))
    for place, number in enumerate(rows):
        # of a step's masked tokens; several numbers of rows are one loss
        share = 0 if place else MASKED * batch / number
        taken = "stored" if 2 * number * PROTOTYPES <= LOGITS_BUDGET else "streamed"
        found += [
            prototype_problem(number, kind, share if kind == taken else 0)
            for kind in ("stored", "streamed", "eager")
        ]
    return found
