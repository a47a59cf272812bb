"""The ops at the recipe's sizes, and how to run them at small ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

import slim_kernels
from slim_kernels.prototype_loss import LOGITS_BUDGET

WIDTH, HEADS, HIDDEN, PROTOTYPES, ROWS, LAYERS = 256, 8, 688, 65_536, 26_880, 8
COLUMN_SPLITS = 16  # of a stored matrix of PROTOTYPES columns: triton_passes.ENOUGH_SWEEPS / 64
JOINTS, PREFIX, PATCH, BATCH, MASKED = 25, 5, 8, 768, 140
VIEWS = {64: 2, 32: 2, 16: 4, 8: 2}
"""Frames of a view -> student views of a sample; the teacher sees the longest."""


def length(frames: int) -> int:
    """Tokens of a view."""
    return PREFIX + frames // PATCH * JOINTS


TOKENS = BATCH * sum(count * length(frames) for frames, count in VIEWS.items())
# forward passes: student and teacher, per student token
FORWARD = 1 + BATCH * VIEWS[64] * length(64) / TOKENS

Run = tuple[Callable[[], Tensor], list[Tensor]]
"""The forward pass, and the tensors whose gradients are wanted."""


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
    calls: dict[str, float]
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


def _parameter(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return (0.06 * torch.randn(shape)).to(dtype).requires_grad_()


def _vector(size: int) -> Tensor:
    return _parameter(size, dtype=torch.float32)


def _stream(tokens: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(tokens, WIDTH).to(dtype).requires_grad_()


def _norm_linear(tokens: int) -> Run:
    x, gamma, beta = _stream(tokens), _vector(WIDTH), _vector(WIDTH)
    weight, bias = _parameter(3 * WIDTH, WIDTH), _vector(3 * WIDTH)
    return (lambda: slim_kernels.norm_linear(x, gamma, beta, weight, bias)), [
        x,
        gamma,
        beta,
        weight,
        bias,
    ]


def _linear_residual(tokens: int) -> Run:
    inputs = [_stream(tokens, torch.bfloat16), _parameter(WIDTH, WIDTH), _vector(WIDTH)]
    inputs.append(_stream(tokens))
    return (lambda: slim_kernels.linear_residual(*inputs)), inputs


def _norm_swiglu(tokens: int) -> Run:
    x, gamma, beta = _stream(tokens), _vector(WIDTH), _vector(WIDTH)
    w12, b12 = _parameter(2 * HIDDEN, WIDTH), _vector(2 * HIDDEN)
    w3, b3 = _parameter(WIDTH, HIDDEN), _vector(WIDTH)
    return (lambda: slim_kernels.norm_swiglu(x, gamma, beta, w12, b12, w3, b3)), [
        x,
        gamma,
        beta,
        w12,
        b12,
        w3,
        b3,
    ]


def _attention(tokens: int) -> Callable[[int], Run]:
    def build(sequences: int) -> Run:
        qkv = _parameter(sequences * tokens, 3, HEADS, WIDTH // HEADS)
        cu_seqlens = torch.arange(sequences + 1, dtype=torch.int32) * tokens
        place = torch.arange(tokens) - PREFIX
        time = torch.where(place < 0, -1, place // JOINTS).to(torch.int32).repeat(sequences)
        return (lambda: slim_kernels.packed_attention(qkv, cu_seqlens, tokens, time=time)), [qkv]

    return build


def _embed_tokens(samples: int, programs: int = 0) -> Run:
    clips, masks = [], []
    for frames, count in VIEWS.items():
        clips.append(torch.randn(samples * count, frames, JOINTS, 3))
        masks.append(torch.rand(samples * count, frames // PATCH, JOINTS) < 0.5)
    parameters = [
        _parameter(*shape, dtype=torch.float32)
        for shape in ((WIDTH, 3, PATCH), (WIDTH,), (WIDTH,), (JOINTS, WIDTH), (PREFIX, WIDTH))
    ]
    return (lambda: slim_kernels.embed_tokens(clips, masks, *parameters)), parameters


def _prototype_loss(budget: int | None) -> Callable[..., Run]:
    """budget: bytes of stored logits; None: PyTorch's operations with every logit in memory, as a
    careful implementation has them (cosines in float16, sums in float32).
    """

    def build(rows: int, prototypes: int, splits: int) -> Run:
        student, teacher, own, others = (
            F.normalize(torch.randn(n, WIDTH), dim=-1) for n in (rows, rows, prototypes, prototypes)
        )
        tensors = [student.requires_grad_(), own.requires_grad_(), teacher, others]
        if budget is None:
            return (lambda: _eager_prototype_loss(*tensors)), tensors[:2]
        return (
            lambda: slim_kernels.prototype_loss(
                *tensors, student_temp=0.1, teacher_temp=0.05, logits_budget=budget
            )
        ), tensors[:2]

    return build


def _eager_prototype_loss(student: Tensor, own: Tensor, teacher: Tensor, others: Tensor) -> Tensor:
    assignment = torch.exp((teacher.half() @ others.half().t()).float() / 0.05)
    rows, columns = assignment.shape
    for _ in range(3):
        assignment /= assignment.sum(0, keepdim=True) * columns
        assignment /= assignment.sum(1, keepdim=True) * rows
    scores = (student.half() @ own.half().t()).float() / 0.1
    return -(assignment * rows * F.log_softmax(scores, dim=-1)).sum()


def _prototype_losses(number: int, share: float) -> Iterator[Problem]:
    """Each way to compute it at `number` rows; share: calls of a step of the one that is taken."""
    # teacher's and student's logits, and two products of their gradients
    operations = 4 * 2.0 * number * PROTOTYPES * WIDTH
    moved = 4.0 * WIDTH * (3 * number + 3 * PROTOTYPES)
    passes = "slim_kernels.prototype_loss.triton_passes"
    plan = {f"{passes}.MOST_SPLITS": None, f"{passes}.MOST_PARTS": 2}
    for kind, budget in (("stored", LOGITS_BUDGET), ("streamed", 0), ("eager", None)):
        is_taken = kind == ("stored" if 2 * number * PROTOTYPES <= LOGITS_BUDGET else "streamed")
        yield Problem(
            "prototype_loss",
            f"{number:,} x {PROTOTYPES:,} {kind}",
            (number, PROTOTYPES, COLUMN_SPLITS),
            ((128, 256), (1024, 2048) if kind == "stored" else (128, 256), (1, 2)),
            _prototype_loss(budget),
            {"forward": (operations, moved), "backward": (0.0, 0.0)},
            dict.fromkeys(("forward", "backward"), share if is_taken else 0),
            plan,
            kind,
        )


def problems(batch: int = BATCH, rows: tuple[int, ...] = (ROWS,)) -> list[Problem]:
    """All ops of a training step of `batch` samples; the prototype loss at each number of rows, in
    one chunk of the student's logits.

    Streams are float32 and products bfloat16, as under autocast.
    """
    tokens = TOKENS // BATCH * batch
    calls = {"forward": LAYERS * FORWARD, "backward": LAYERS}

    def on_rows(
        op: str, build: Callable[[int], Run], products: int, again: int, ins: int, back: int
    ) -> Problem:
        """products: multiply-adds of a token, `again` those of the backward pass; ins, back: bytes
        of a token forward and backward.
        """
        floors = {
            "forward": (2.0 * products * tokens, float(ins * tokens)),
            "backward": (2.0 * again * tokens, float(back * tokens)),
        }
        return Problem(op, f"{tokens:,} tokens", (tokens,), ((128, 256),), build, floors, calls)

    d, f = WIDTH, HIDDEN
    found = [
        on_rows("norm_linear", _norm_linear, 3 * d * d, 6 * d * d, 10 * d, 14 * d),
        on_rows("linear_residual", _linear_residual, d * d, 2 * d * d, 10 * d, 8 * d),
        on_rows("norm_swiglu", _norm_swiglu, 3 * d * f, 8 * d * f, 8 * d, 12 * d),
    ]
    for frames, count in VIEWS.items():
        size, sequences = length(frames), count * batch
        scores, total = 2.0 * size * size * d * sequences, size * sequences * d
        floors = {"forward": (2 * scores, 8.0 * total), "backward": (5 * scores, 16.0 * total)}
        again = LAYERS * (2 if frames == max(VIEWS) else 1)
        found.append(
            Problem(
                "packed_attention",
                f"{sequences:,} of {size}",
                (sequences,),
                ((1, 2),),
                _attention(size),
                floors,
                {"forward": again, "backward": LAYERS},
            )
        )
    patches = tokens - PREFIX * batch * sum(VIEWS.values())
    products, clips = 2.0 * 3 * PATCH * d * patches, 4.0 * 3 * PATCH * patches
    found.append(
        Problem(
            "embed_tokens",
            f"{tokens:,} tokens",
            (batch, 256),
            ((4, 8), (2, 4)),
            _embed_tokens,
            {
                "forward": (products, clips + 4.0 * d * tokens),
                "backward": (products, clips + 4.0 * d * tokens),
            },
            {"forward": FORWARD, "backward": 1},
            {"slim_kernels.embed_tokens.triton.MOST_PROGRAMS": 1},
        )
    )
    for place, number in enumerate(rows):
        # of a step's masked tokens; several numbers of rows are one loss
        found += _prototype_losses(number, 0 if place else MASKED * batch / number)
    return found
