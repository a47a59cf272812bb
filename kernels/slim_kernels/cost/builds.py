"""How to run each op at small sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import slim_kernels
from slim_kernels.linear import norm_linear_and_stream
from slim_kernels.tube_masks import tube_masks as make_tube_masks

WIDTH, HEADS, HIDDEN, PROTOTYPES = 256, 8, 688, 65_536
JOINTS, PREFIX, PATCH = 25, 5, 8
VIEWS = {64: 2, 32: 2, 16: 4, 8: 2}
"""Frames of a view -> student views of a sample; the teacher sees the longest."""

Run = tuple[Callable[[], Tensor | tuple[Tensor, ...]], list[Tensor]]
"""The forward pass, and the tensors whose gradients are wanted."""


def _parameter(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return (0.06 * torch.randn(shape)).to(dtype).requires_grad_()


def _vector(size: int) -> Tensor:
    return _parameter(size, dtype=torch.float32)


def _stream(tokens: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(tokens, WIDTH).to(dtype).requires_grad_()


def norm_linear(tokens: int, stream: torch.dtype) -> Run:
    """With the gradient that comes along the residual."""
    x, gamma, beta = _stream(tokens, stream), _vector(WIDTH), _vector(WIDTH)
    weight, bias = _parameter(3 * WIDTH, WIDTH), _vector(3 * WIDTH)
    inputs = x, gamma, beta, weight, bias
    return (lambda: norm_linear_and_stream(*inputs)), [*inputs]


def linear_residual(tokens: int, stream: torch.dtype) -> Run:
    inputs = [_stream(tokens, torch.bfloat16), _parameter(WIDTH, WIDTH), _vector(WIDTH)]
    inputs.append(_stream(tokens, stream))
    return (lambda: slim_kernels.linear_residual(*inputs)), inputs


def norm_swiglu(tokens: int, stream: torch.dtype) -> Run:
    x, gamma, beta = _stream(tokens, stream), _vector(WIDTH), _vector(WIDTH)
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


@dataclass(frozen=True)
class Sequences:
    """Sequences of a packed batch that are alike."""

    number: int
    """Of a sample."""
    tokens: int
    keys: int | None = None
    """How many of the tokens are visible, spread evenly, CLS among them; None: all, and no call
    with sequences that hide any.
    """
    bucket: int = 0
    """Those of a bucket follow one another."""
    longest: int = 0
    """Tokens for which a bucket's launch is chosen; 0: its own."""


def attention(kinds: tuple[Sequences, ...]) -> Callable[[int], Run]:
    def build(samples: int) -> Run:
        lengths, time, visible, buckets = [], [], [], dict[int, list[int]]()
        for kind in kinds:
            place, number = torch.arange(kind.tokens), kind.number * samples
            keys = kind.tokens if kind.keys is None else kind.keys
            lengths.append(torch.full((number,), kind.tokens))
            visible.append((place * keys % kind.tokens < keys).repeat(number))
            steps = (place - PREFIX).div(JOINTS, rounding_mode="floor").clamp_min(-1)
            time.append(steps.to(torch.int32).repeat(number))
            bucket = buckets.setdefault(kind.bucket, [0, kind.longest or kind.tokens])
            bucket[0] += number
        bounds = torch.cat([torch.zeros(1), *lengths]).cumsum(0).to(torch.int32)
        longest = max(bucket[1] for bucket in buckets.values())
        qkv = _parameter(int(bounds[-1]), 3, HEADS, WIDTH // HEADS)
        options: dict[str, Any] = {
            "time": torch.cat(time),
            "visible": None if kinds[0].keys is None else torch.cat(visible),
            "buckets": [number for bucket in buckets.values() for number in bucket],
        }
        return (lambda: slim_kernels.packed_attention(qkv, bounds, longest, **options)), [qkv]

    return build


def embed_tokens(samples: int, programs: int = 0) -> Run:
    clips, masks = [], []
    for frames, count in VIEWS.items():
        clips.append(torch.randn(samples * count, frames, JOINTS, 3))
        masks.append(torch.rand(samples * count, frames // PATCH, JOINTS) < 0.5)
    parameters = [
        _parameter(*shape, dtype=torch.float32)
        for shape in ((WIDTH, 3, PATCH), (WIDTH,), (WIDTH,), (JOINTS, WIDTH), (PREFIX, WIDTH))
    ]
    return (lambda: slim_kernels.embed_tokens(clips, masks, *parameters)), parameters


def tube_masks(times: int, joints: int) -> Callable[[int], Run]:
    """Masks that hide 50 to 90 % of their cells, of a skeleton of five equal parts."""

    def build(rows: int) -> Run:
        tokens = torch.full((rows,), times)
        budget = (torch.linspace(0.5, 0.9, rows) * times * joints).long()
        sizes = torch.full((5,), float(joints // 5))
        tables = torch.stack([sizes, sizes.cumsum(0) - sizes], 1), torch.arange(joints)
        keys = torch.randint(-(2**63), 2**63 - 1, (rows,))
        most = times * joints // 2
        return (lambda: make_tube_masks(budget, tokens, tokens, keys, *tables, most, times)), []

    return build


def prototype_loss(budget: int | None, shared: bool) -> Callable[..., Run]:
    """budget: bytes of stored logits; None: PyTorch's operations with every logit in memory, as a
    careful implementation has them (cosines in float16, sums in float32). shared: of each teacher
    row there are 5 student rows, which look at two teacher rows each.
    """

    def build(rows: int, prototypes: int, splits: int) -> Run:
        students = 5 * rows if shared else rows
        student, teacher, own, others = (
            F.normalize(torch.randn(n, WIDTH), dim=-1)
            for n in (students, rows, prototypes, prototypes)
        )
        near = torch.arange(students)[:, None] // 5 + torch.arange(2)
        target = near % rows if shared else None
        tensors = [student.requires_grad_(), own.requires_grad_(), teacher, others]
        if budget is None:
            return (lambda: _eager_prototype_loss(*tensors)), tensors[:2]
        return (
            lambda: slim_kernels.prototype_loss(
                *tensors, target=target, student_temp=0.1, teacher_temp=0.05, logits_budget=budget
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
