"""One small run of each operation, forward and backward: ragged lengths, rows and columns that fill
no tile, loops of several turns. Results of sound kernels lie within the tolerance; those of a
faulty one should not.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

import slim_kernels
import torch
import torch.nn.functional as F
from slim_kernels.attention import triton as attention
from slim_kernels.attention.reference import reference as attention_reference
from slim_kernels.attention.rotary import tables
from slim_kernels.embed_tokens import triton as embedding
from slim_kernels.embed_tokens.reference import reference as embedding_reference
from slim_kernels.feed_forward import triton as feed_forward
from slim_kernels.linear import triton as linear
from slim_kernels.prototype_loss import triton as prototypes
from slim_kernels.prototype_loss.reference import prototype_loss as prototypes_reference
from torch import Tensor

# a device that is emulated compiles the kernels of modules that are imported before
for _module in pkgutil.walk_packages(slim_kernels.__path__, "slim_kernels."):
    importlib.import_module(_module.name)

EPS = 1e-6
ROWS, WIDTH, HIDDEN, FEATURES = 150, 48, 136, 200


@dataclass(frozen=True)
class Operation:
    """An operation and what to call it with."""

    kernels: Callable[..., Tensor]
    """By its Triton kernels."""
    oracle: Callable[..., Tensor]
    """In PyTorch's operations."""
    arguments: tuple[Tensor, ...]
    """Those that get a gradient."""
    dtype: torch.dtype
    """Of the matrix products."""

    def results(self, function: Callable[..., Tensor], dtype: torch.dtype | None) -> list[Tensor]:
        """The output and the gradients of all arguments, which are cast to dtype (None: as they
        are).
        """
        inputs = [x.detach().to(dtype or x.dtype).requires_grad_() for x in self.arguments]
        # so few that each has several turns of its loop
        with patch.object(embedding, "MOST_PROGRAMS", 2):
            out = function(*inputs)
            direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
            gradients = torch.autograd.grad(out, inputs, direction.to(out.dtype))
        return [out.detach(), *gradients]


def _normal(*shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return shift + scale * torch.randn(*shape)


def _attention(dtype: torch.dtype, visible: bool) -> Operation:
    lengths, heads, size = torch.tensor([1, 5, 37, 150]), 2, 32
    total, longest = int(lengths.sum()), int(lengths.max())
    bounds = F.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    time = torch.cat([(torch.arange(int(n)) - 5).div(25, rounding_mode="floor") for n in lengths])
    time = time.clamp(min=-1).to(torch.int32)
    seen = (torch.rand(total) < 0.9).index_fill(0, bounds[:-1].long(), True) if visible else None
    angles = tables(size // 2, longest, time.device, torch.float32)
    return Operation(
        lambda qkv: attention.packed_attention(qkv, bounds, longest, *angles, time, seen, None)[0],
        lambda qkv: attention_reference(qkv, bounds, longest, time, seen),
        (_normal(total, 3, heads, size).to(dtype),),
        dtype,
    )


def _norm_linear(dtype: torch.dtype) -> Operation:
    return Operation(
        lambda *a: linear.norm_linear(*a, EPS),
        lambda x, g, b, w, c: F.linear(F.layer_norm(x, (WIDTH,), g, b, EPS), w, c),
        (
            _normal(ROWS, WIDTH),
            _normal(WIDTH, scale=0.1, shift=1),
            _normal(WIDTH, scale=0.1),
            _normal(FEATURES, WIDTH, scale=0.1).to(dtype),
            _normal(FEATURES, scale=0.1),
        ),
        dtype,
    )


def _linear_residual(dtype: torch.dtype) -> Operation:
    return Operation(
        linear.linear_residual,
        lambda x, w, c, r: r + F.linear(x, w, c),
        (
            _normal(ROWS, WIDTH).to(dtype),
            _normal(FEATURES, WIDTH, scale=0.1).to(dtype),
            _normal(FEATURES, scale=0.1),
            _normal(ROWS, FEATURES),
        ),
        dtype,
    )


def _norm_swiglu(dtype: torch.dtype) -> Operation:
    def oracle(x: Tensor, g: Tensor, b: Tensor, *rest: Tensor) -> Tensor:
        w12, c12, w3, c3 = rest
        gate, value = F.linear(F.layer_norm(x, (WIDTH,), g, b, EPS), w12, c12).chunk(2, -1)
        return x + F.linear(F.silu(gate) * value, w3, c3)

    return Operation(
        lambda *a: feed_forward.norm_swiglu(*a, EPS),
        oracle,
        (
            _normal(ROWS, WIDTH),
            _normal(WIDTH, scale=0.1, shift=1),
            _normal(WIDTH, scale=0.1),
            _normal(2 * HIDDEN, WIDTH, scale=0.15).to(dtype),
            _normal(2 * HIDDEN, scale=0.1),
            _normal(WIDTH, HIDDEN, scale=0.15).to(dtype),
            _normal(WIDTH, scale=0.1),
        ),
        dtype,
    )


def _embed_tokens(dtype: torch.dtype, far: bool = False) -> Operation:
    """far: the second clip begins more than 2^31 elements behind the first."""
    joints, patch, channels, registers = 5, 4, 3, 2
    clips = [_normal(2, 16, joints, channels), _normal(3, channels, 8, joints).permute(0, 2, 3, 1)]
    if far:
        stride = (2**31 + 16, joints * channels, channels, 1)
        # memory that nobody touches is not there
        clips[0] = torch.empty_strided(clips[0].shape, stride, dtype=dtype).copy_(clips[0])
    mask = torch.rand(2, 4, joints) < 0.4
    # the first token of the second group is among them
    index = torch.cat([torch.tensor([44]), torch.randperm(44), 45 + torch.randperm(35)[:22]])
    return Operation(
        lambda *a: embedding.embed_tokens(clips, [mask, mask[:0]], *a, index),
        lambda *a: embedding_reference([x.to(a[0].dtype) for x in clips], [mask, None], *a, index),
        (
            _normal(WIDTH, channels, patch, scale=0.3).to(dtype),
            _normal(WIDTH).to(dtype),
            _normal(WIDTH).to(dtype),
            _normal(joints, WIDTH).to(dtype),
            _normal(registers, WIDTH).to(dtype),
        ),
        dtype,
    )


def _prototype_loss(dtype: torch.dtype) -> Operation:
    students, teachers, count, temperatures = 70, 40, 1100, (0.1, 0.05)
    teacher, teacher_prototypes = (
        F.normalize(_normal(n, WIDTH), dim=-1) for n in (teachers, count)
    )
    target, weight = torch.randint(teachers, (students, 2)), torch.rand(students) + 0.1
    constants = (teacher, teacher_prototypes)

    def oracle(student: Tensor, own: Tensor) -> Tensor:
        constant = [x.to(own.dtype) for x in (*constants, weight)]
        return prototypes_reference(
            student, own, *constant[:2], target, constant[2], *temperatures, 3
        )

    return Operation(
        lambda student, own: prototypes.prototype_loss(
            student, own, *constants, target, weight, None, *temperatures, 3, None, 0, True, True
        )[0],
        oracle,
        tuple(F.normalize(_normal(n, WIDTH), dim=-1) for n in (students, count)),
        torch.float16,
    )


_MAKERS: dict[str, Callable[[torch.dtype], Operation]] = {
    "attention": lambda dtype: _attention(dtype, False),
    "attention, some keys": lambda dtype: _attention(dtype, True),
    "norm_linear": _norm_linear,
    "linear_residual": _linear_residual,
    "norm_swiglu": _norm_swiglu,
    "embed_tokens": _embed_tokens,
    "embed_tokens, far clips": lambda dtype: _embed_tokens(dtype, True),
    "prototype_loss": _prototype_loss,
}
OPERATIONS = tuple(_MAKERS)


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """While it is open, uninitialised tensors are full of NaN."""
    settings: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        settings.fill_uninitialized_memory = before[1]


def _errors(got: list[Tensor], want: list[Tensor]) -> list[tuple[float, float]]:
    """For each result the error's norm and its largest element, by those of the truth."""
    found = []
    for x, y in zip(got, want, strict=True):
        d = x.double() - y
        found.append((float(d.norm() / y.norm()), float(d.abs().max() / y.abs().max())))
    return found


@dataclass(frozen=True)
class Judge:
    """The truth in float64, and how far from it PyTorch is."""

    operation: Operation
    truth: list[Tensor]
    allowed: list[tuple[float, float]]

    def excess(self, got: list[Tensor]) -> float:
        """The largest error by what is allowed: at most 1 for sound kernels; NaN is infinite."""
        ratios = [
            error / limit
            for errors, limits in zip(_errors(got, self.truth), self.allowed, strict=True)
            for error, limit in zip(errors, limits, strict=True)
        ]
        return max(ratio if ratio == ratio else float("inf") for ratio in ratios)


@cache
def judge(name: str, dtype: torch.dtype) -> Judge:
    """An operation with its tolerance: twice the error of PyTorch in the same dtype, three times
    for gradients.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        operation = _MAKERS[name](dtype)
    truth = operation.results(operation.oracle, torch.float64)
    with torch.autocast("cpu", operation.dtype):
        plain = operation.results(operation.oracle, None)
    allowed = [
        tuple((3 if number else 2) * max(e, 2**-20) for e in errors)
        for number, errors in enumerate(_errors(plain, truth))
    ]
    return Judge(operation, truth, allowed)  # type: ignore[arg-type]
