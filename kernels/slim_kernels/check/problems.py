"""Small inputs of every op that together reach every launch on file, with their float64 oracle."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from slim_kernels import (
    embed_tokens,
    linear_residual,
    norm_linear,
    norm_swiglu,
    packed_attention,
    prototype_loss,
)
from slim_kernels.attention.reference import reference as attention_reference
from slim_kernels.embed_tokens.reference import reference as embed_reference
from slim_kernels.feed_forward.reference import norm_swiglu as norm_swiglu_reference
from slim_kernels.linear import norm_linear_and_stream
from slim_kernels.linear import reference as linear_reference
from slim_kernels.prototype_loss.reference import prototype_loss as prototype_reference
from slim_kernels.tube_masks import tube_masks
from slim_kernels.tube_masks.reference import reference as tube_reference

EPS = 1e-6
# buckets of one token, and of lengths at the edges of tiles and of what one launch takes
SHORT, LONG = ((1, 31, 32),), ((1, 33, 64), (65, 1), (130,), (257,))


@dataclass(frozen=True)
class Problem:
    """One call of an op."""

    op: str
    label: str
    call: Callable[..., Tensor]
    exact: Callable[..., Tensor]
    """The op's reference, which takes the same tensors in float64."""
    inputs: list[Tensor]
    """In float64."""
    constants: frozenset[int] = frozenset()
    """Inputs that get no gradient."""


def problems(every: bool) -> Iterator[Problem]:
    """Inputs that reach every launch of LAUNCHES; `every`: at every size and with every flag for
    which kernels are compiled.
    """
    widths = (16, 32, 64, 96, 128, 160, 192, 256) if every else (16, 64, 128, 192, 256)
    for head in (16, 32, 64):
        for number, lengths in enumerate((SHORT, LONG)):
            for visible in (False, True):
                # of the two kinds of keys one at each size
                if every or visible == bool((number + head // 16) % 2):
                    yield _attention(head, lengths, visible)
    for number, width in enumerate(widths):
        rows = (130, 1, 65)[number % 3]
        for with_stream in (False, True):
            if every or with_stream == bool(number % 2):
                yield _norm_linear(rows, width, with_stream)
        yield _linear_residual(rows, width)
        yield _norm_swiglu(rows, width)
        for mask in (False, True):
            for index in (False, True):
                if every or (mask, index) == ((number % 2 == 0), (number // 2 % 2 == 0)):
                    yield _embed_tokens(width, mask, index)
    for width in widths if every else (64, 192, 256):
        for budget in (0, 1 << 30):
            yield _prototype_loss(33, 33, width, 130, 0, budget)
            yield _prototype_loss(70, 40, width, 65, 2, budget)
    for part, times in ((5, 8), (25, 17)):
        yield _tube_masks(part, times)


def _attention(head: int, buckets: tuple[tuple[int, ...], ...], with_visible: bool) -> Problem:
    lengths = list(itertools.chain(*buckets))
    total = sum(lengths)
    cu_seqlens = torch.tensor((0, *lengths)).cumsum(0).to(torch.int32)
    # a sequence's first token stands for CLS, which is not rotated
    time = torch.cat([torch.arange(n) // 3 - 1 for n in lengths]).clamp(min=-1).to(torch.int32)
    visible = None
    if with_visible:
        visible = torch.rand(total) < 0.4
        visible[cu_seqlens[:-1].long()] = True
    numbers = [number for bucket in buckets for number in (len(bucket), max(bucket))]
    options: dict[str, Any] = {
        "cu_seqlens": cu_seqlens,
        "max_seqlen": max(lengths),
        "time": time,
        "visible": visible,
    }
    return Problem(
        "packed_attention",
        f"lengths {', '.join(map(str, lengths))} heads of {head}" + " visible" * with_visible,
        partial(packed_attention, **options, buckets=numbers),
        partial(attention_reference, **options),
        [torch.randn(total, 3, 2, head, dtype=torch.float64)],
    )


def _norm(width: int) -> list[Tensor]:
    gain = 1 + 0.1 * torch.randn(width, dtype=torch.float64)
    return [gain, 0.1 * torch.randn(width, dtype=torch.float64)]


def _layer(outputs: int, inputs: int) -> list[Tensor]:
    weight = torch.randn(outputs, inputs, dtype=torch.float64) / inputs**0.5
    return [weight, 0.1 * torch.randn(outputs, dtype=torch.float64)]


def _norm_linear(rows: int, width: int, with_stream: bool) -> Problem:
    x = torch.randn(rows, width, dtype=torch.float64)
    call, exact = partial(norm_linear, eps=EPS), partial(linear_reference.norm_linear, eps=EPS)

    def both(*inputs: Tensor) -> Tensor:
        return torch.cat(partial(norm_linear_and_stream, eps=EPS)(*inputs), 1)

    return Problem(
        "norm_linear",
        f"{rows} rows of {width}" + " and the stream" * with_stream,
        both if with_stream else call,
        (lambda x, *others: torch.cat([exact(x, *others), x], 1)) if with_stream else exact,
        [x, *_norm(width), *_layer(3 * width, width)],
    )


def _linear_residual(rows: int, width: int) -> Problem:
    x, residual = torch.randn(2, rows, width, dtype=torch.float64)
    return Problem(
        "linear_residual",
        f"{rows} rows of {width}",
        linear_residual,
        linear_reference.linear_residual,
        [x, *_layer(width, width), residual],
    )


def _norm_swiglu(rows: int, width: int) -> Problem:
    hidden = -(-width * 8 // 24) * 8
    x = torch.randn(rows, width, dtype=torch.float64)
    return Problem(
        "norm_swiglu",
        f"{rows} rows of {width}, hidden {hidden}",
        partial(norm_swiglu, eps=EPS),
        partial(norm_swiglu_reference, eps=EPS),
        [x, *_norm(width), *_layer(2 * hidden, width), *_layer(width, hidden)],
    )


def _embed_tokens(width: int, with_mask: bool, with_index: bool) -> Problem:
    joints, patch, prefix = 25, 8, 5
    clips = [torch.randn(2, 16, joints, 3), torch.randn(1, 8, joints, 3)]
    masks = [torch.rand(2, 2, joints) < 0.4 if with_mask else None, None]
    total = 2 * (prefix + 2 * joints) + prefix + joints
    index = torch.randperm(total)[: total // 2] if with_index else None

    def exact(*parameters: Tensor) -> Tensor:
        wide = [clip.to(parameters[0].dtype) for clip in clips]
        return partial(embed_reference, wide, masks, index=index)(*parameters)

    weight = torch.randn(width, 3, patch, dtype=torch.float64) / 5
    mask_token = torch.randn(width, dtype=torch.float64)
    return Problem(
        "embed_tokens",
        f"width {width}" + " mask" * with_mask + " index" * with_index,
        partial(embed_tokens, clips, masks, index=index),
        exact,
        [
            weight,
            0.1 * torch.randn(width, dtype=torch.float64),
            mask_token,
            torch.randn(joints, width, dtype=torch.float64),
            torch.randn(prefix, width, dtype=torch.float64),
        ],
    )


def _prototype_loss(
    students: int, teachers: int, width: int, prototypes: int, targets: int, budget: int
) -> Problem:
    target = torch.randint(teachers, (students, targets)) if targets else None
    weight = torch.rand(students) + 0.5

    options: dict[str, Any] = {"target": target, "student_temp": 0.1, "teacher_temp": 0.05}
    return Problem(
        "prototype_loss",
        f"{students} x {teachers} rows of {width}, {prototypes} prototypes, {targets} targets"
        + " stored" * (budget > 0),
        partial(prototype_loss, weight=weight, logits_budget=budget, **options),
        partial(prototype_reference, weight=weight.double(), iterations=3, **options),
        [
            F.normalize(torch.randn(rows, width, dtype=torch.float64), dim=-1)
            for rows in (students, prototypes, teachers, prototypes)
        ],
        constants=frozenset({2, 3}),
    )


def _tube_masks(part: int, times: int) -> Problem:
    """Numbers that are masked, so that the masks must agree."""
    rows, joints = 6, 5 * part
    tokens = torch.tensor([times, times // 2, times]).repeat(2)
    budget = (tokens * joints * torch.tensor([0, 0.5, 0.6, 0.7, 0.8, 0.9])).long()
    sizes = torch.full((5,), float(part))
    tables = torch.stack([sizes, sizes.cumsum(0) - sizes], 1), torch.randperm(joints)
    keys = torch.randint(-(2**63), 2**63 - 1, (rows,))
    arguments = (budget, tokens, tokens, keys, *tables, times * joints // 2, times)
    return Problem(
        "tube_masks",
        f"{rows} masks of {times} x {joints}",
        lambda x: x * tube_masks(*arguments),
        lambda x: x * tube_reference(*arguments),
        [torch.randn(rows, times, joints, dtype=torch.float64)],
    )
