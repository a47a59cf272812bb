"""Every op at the recipe's sizes, in the dtypes of a training step under bf16 autocast, beside plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import slim_kernels
import torch
import torch.nn.functional as F
from slim_kernels.attention import reference as eager_attention
from slim_kernels.embed import reference as eager_embed
from torch import Tensor

from benchmarks.baselines.eager_slim import cross_entropy, sinkhorn
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.heads import HeadConfig
from slim_fast.model.objectives import STUDENT_TEMPERATURE
from slim_fast.model.packing import Packing, packing
from slim_fast.views.pipeline import PATCH_FRAMES, ViewsConfig

ENCODER, CHANNELS, TEACHER_TEMPERATURE = EncoderConfig(), 3, 0.05
PREFIX = 1 + ENCODER.registers


def recipe_views() -> tuple[tuple[int, int], ...]:
    """(views a sample, frames) of the recipe's view groups."""
    views = ViewsConfig()
    return ((2, views.window), *((2 * local.count, local.window) for local in views.local))


@dataclass(frozen=True)
class Sizes:
    """Sizes of the ops; the recipe's, but for the batch."""

    samples: int
    rows: int
    """Student and teacher rows of the prototype loss."""
    joints: int = 25
    width: int = ENCODER.width
    heads: int = ENCODER.heads
    hidden: int = ENCODER.hidden
    prototypes: int = HeadConfig().prototypes
    views: tuple[tuple[int, int], ...] = field(default_factory=recipe_views)

    def pack(self, device: torch.device) -> Packing:
        """Whole sequences of all views."""
        groups = tuple((count * self.samples, frames // PATCH_FRAMES) for count, frames in self.views)
        return packing(groups, PREFIX, self.joints, device)

    @property
    def tokens(self) -> int:
        return self.samples * sum(n * (PREFIX + frames // PATCH_FRAMES * self.joints) for n, frames in self.views)


TIMED = Sizes(samples=192, rows=26_880)  # as many masked tokens as 192 samples have
CHECKED = Sizes(samples=8, rows=1_000)
TINY = Sizes(samples=1, rows=40, joints=3, width=32, heads=2, hidden=40, prototypes=96)


@dataclass(frozen=True)
class Problem:
    """One call of an op."""

    ours: Callable[..., Tensor]
    eager: Callable[..., Tensor]
    inputs: dict[str, Tensor]
    """The arguments that are not whole numbers, by name."""
    learned: tuple[str, ...]
    """Those that get gradients."""
    autocast: bool = False
    """Whether both run under bf16 autocast."""


def prepare(
    problem: Problem, side: Callable[..., Tensor], cast: torch.dtype | None = None
) -> Callable[[], dict[str, Tensor]]:
    """What runs `side` forward and backward, from a random cotangent, and returns output and gradients by name.

    cast: all inputs in that dtype and no autocast.
    """
    inputs = {
        name: x.detach().to(cast or x.dtype).requires_grad_(name in problem.learned)
        for name, x in problem.inputs.items()
    }
    learned = [inputs[name] for name in problem.learned]
    device = learned[0].device
    cotangent: Tensor | None = None

    def run() -> dict[str, Tensor]:
        nonlocal cotangent
        with torch.autocast(device.type, torch.bfloat16, enabled=problem.autocast and cast is None):
            out = side(**inputs)
        if cotangent is None:  # exact in every dtype
            drawn = torch.randn(out.shape, device=device, generator=torch.Generator(device).manual_seed(0))
            cotangent = drawn.bfloat16().to(out.dtype)
        gradients = torch.autograd.grad(out, learned, cotangent)
        return {
            "forward": out.detach(),
            **{f"gradient of {name}": g for name, g in zip(problem.learned, gradients, strict=True)},
        }

    return run


class Draw:
    """Random tensors on a device; `low`: the dtype of matrix operands."""

    def __init__(self, device: torch.device, seed: int) -> None:
        self.device, self._generator = device, torch.Generator(device).manual_seed(seed)
        self.low = torch.bfloat16 if device.type == "cuda" else torch.float32

    def __call__(self, *shape: int, scale: float = 1.0, mean: float = 0.0) -> Tensor:
        return torch.randn(shape, device=self.device, generator=self._generator) * scale + mean

    def mask(self, *shape: int, share: float = 0.5) -> Tensor:
        return torch.rand(shape, device=self.device, generator=self._generator) < share

    def norm(self, width: int) -> dict[str, Tensor]:
        return {"norm_weight": self(width, scale=0.1, mean=1.0), "norm_bias": self(width, scale=0.1)}


def embed_tokens(sizes: Sizes, draw: Draw, partly: bool = False) -> Problem:
    """partly: only some tokens are emitted, and the first group is not masked."""
    shapes = [(count * sizes.samples, frames) for count, frames in sizes.views]
    masks: list[Tensor | None] = [draw.mask(n, frames // PATCH_FRAMES, sizes.joints) for n, frames in shapes]
    index = None
    if partly:
        masks[0] = None
        index = draw.mask(sizes.tokens).nonzero()[:, 0]
    clips = {f"clips_{frames}": draw(n, frames, sizes.joints, CHANNELS) for n, frames in shapes}
    parameters = {
        "weight": draw(sizes.width, CHANNELS, PATCH_FRAMES, scale=0.2),
        "bias": draw(sizes.width),
        "mask_token": draw(sizes.width),
        "joints": draw(sizes.joints, sizes.width),
        "prefix": draw(PREFIX, sizes.width),
    }

    def split(given: dict[str, Tensor]) -> list[Any]:
        return [[given[name] for name in clips], masks, *(given[name] for name in parameters)]

    return Problem(
        lambda **given: slim_kernels.embed_tokens(*split(given), index=index),
        lambda **given: eager_embed(*split(given), index),
        {**clips, **parameters},
        tuple(parameters),
        autocast=draw.device.type == "cuda",
    )


def packed_attention(sizes: Sizes, draw: Draw, hidden: float = 0.0) -> Problem:
    """hidden: the share of the patch tokens that nobody may ask; 0: no `visible` is given."""
    packed = sizes.pack(draw.device)
    visible = (packed.time < 0) | ~draw.mask(sizes.tokens, share=hidden) if hidden else None
    qkv = draw(sizes.tokens, 3, sizes.heads, sizes.width // sizes.heads).to(draw.low)

    def ours(qkv: Tensor) -> Tensor:
        return slim_kernels.packed_attention(
            qkv, packed.cu_seqlens, packed.max_seqlen, time=packed.time, visible=visible, buckets=packed.buckets
        )

    def eager(qkv: Tensor) -> Tensor:
        return eager_attention(qkv, packed.cu_seqlens, packed.max_seqlen, packed.time, visible)

    return Problem(ours, eager, {"qkv": qkv}, ("qkv",))


def norm_linear(sizes: Sizes, draw: Draw) -> Problem:
    d = sizes.width

    def eager(x: Tensor, norm_weight: Tensor, norm_bias: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.linear(F.layer_norm(x, (d,), norm_weight, norm_bias, 1e-6), weight, bias)

    inputs = {"x": draw(sizes.tokens, d), **draw.norm(d), "weight": draw(3 * d, d, scale=d**-0.5), "bias": draw(3 * d)}
    return Problem(
        lambda **given: slim_kernels.norm_linear(**given), eager, inputs, tuple(inputs), draw.device.type == "cuda"
    )


def linear_residual(sizes: Sizes, draw: Draw) -> Problem:
    d = sizes.width

    def eager(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
        return residual + F.linear(x, weight, bias)

    inputs = {
        "x": draw(sizes.tokens, d).to(draw.low), "weight": draw(d, d, scale=d**-0.5), "bias": draw(d),
        "residual": draw(sizes.tokens, d),
    }  # fmt: skip
    return Problem(
        lambda **given: slim_kernels.linear_residual(**given), eager, inputs, tuple(inputs), draw.device.type == "cuda"
    )


def norm_swiglu(sizes: Sizes, draw: Draw) -> Problem:
    d, f = sizes.width, sizes.hidden

    def eager(
        x: Tensor, norm_weight: Tensor, norm_bias: Tensor, w12: Tensor, b12: Tensor, w3: Tensor, b3: Tensor
    ) -> Tensor:
        gate, value = F.linear(F.layer_norm(x, (d,), norm_weight, norm_bias, 1e-6), w12, b12).chunk(2, -1)
        return x + F.linear(F.silu(gate) * value, w3, b3)

    inputs = {
        "x": draw(sizes.tokens, d), **draw.norm(d), "w12": draw(2 * f, d, scale=d**-0.5), "b12": draw(2 * f),
        "w3": draw(d, f, scale=f**-0.5), "b3": draw(d),
    }  # fmt: skip
    return Problem(
        lambda **given: slim_kernels.norm_swiglu(**given), eager, inputs, tuple(inputs), draw.device.type == "cuda"
    )


def logits(a: Tensor, b: Tensor) -> Tensor:
    """Cosines (N, K) in memory: fp16 on a GPU, as a careful eager implementation keeps them."""
    dtype = torch.float16 if a.is_cuda and a.dtype == torch.float32 else a.dtype
    return a.to(dtype) @ b.to(dtype).t()


def prototype_loss(sizes: Sizes, draw: Draw, shared: bool = False) -> Problem:
    """shared: five student rows look at the same two teacher rows, as views of one clip do."""
    rows, teachers = sizes.rows, sizes.rows // 5 if shared else sizes.rows
    target = None
    if shared:
        own = torch.arange(rows, device=draw.device) % teachers
        target = torch.stack([own, (own + 1) % teachers], 1)
    unit = {
        name: F.normalize(draw(n, sizes.width), dim=-1)
        for name, n in (
            ("student", rows),
            ("student_prototypes", sizes.prototypes),
            ("teacher", teachers),
            ("teacher_prototypes", sizes.prototypes),
        )
    }

    def ours(weight: Tensor, **given: Tensor) -> Tensor:
        return slim_kernels.prototype_loss(
            **given, weight=weight, target=target, student_temp=STUDENT_TEMPERATURE, teacher_temp=TEACHER_TEMPERATURE
        )

    def eager(
        student: Tensor, student_prototypes: Tensor, teacher: Tensor, teacher_prototypes: Tensor, weight: Tensor
    ) -> Tensor:
        targets = sinkhorn(logits(teacher, teacher_prototypes), TEACHER_TEMPERATURE)
        if target is not None:
            targets = targets[target].mean(1)
        return (weight * cross_entropy(targets, logits(student, student_prototypes), STUDENT_TEMPERATURE)).sum()

    # Weights near 1: with the mean's 1 / N the eager side's fp16 gradients would vanish.
    inputs = {**unit, "weight": draw(rows, scale=0.1, mean=1.0)}
    return Problem(ours, eager, inputs, ("student", "student_prototypes"))


PROBLEMS: dict[str, Callable[[Sizes, Draw], Problem]] = {
    "embed_tokens": embed_tokens,
    "embed_tokens, part of the tokens": lambda sizes, draw: embed_tokens(sizes, draw, partly=True),
    "packed_attention": packed_attention,
    "packed_attention, visible": lambda sizes, draw: packed_attention(sizes, draw, hidden=0.5),
    "norm_linear": norm_linear,
    "linear_residual": linear_residual,
    "norm_swiglu": norm_swiglu,
    "prototype_loss": prototype_loss,
    "prototype_loss, shared targets": lambda sizes, draw: prototype_loss(sizes, draw, shared=True),
}
