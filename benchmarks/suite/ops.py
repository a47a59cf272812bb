"""Every op at the recipe's sizes, in the dtypes of bf16 autocast, beside plain PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import slim_kernels
import torch
import torch.nn.functional as F
from slim_kernels.attention import reference as eager_attention
from slim_kernels.embed_tokens import reference as eager_embed
from slim_kernels.feed_forward.reference import norm_swiglu as eager_norm_swiglu
from slim_kernels.linear.reference import linear_residual as eager_linear_residual
from slim_kernels.linear.reference import norm_linear as eager_norm_linear
from torch import Tensor

from benchmarks.baselines.eager_slim import cross_entropy, sinkhorn
from slim_fast.model.encoder import EncoderConfig
from slim_fast.model.heads import HeadConfig
from slim_fast.model.objectives import STUDENT_TEMPERATURE
from slim_fast.model.packing import Packing, pack_sequences
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
        groups = tuple(
            (count * self.samples, frames // PATCH_FRAMES) for count, frames in self.views
        )
        return pack_sequences(groups, PREFIX, self.joints, device)

    @property
    def tokens(self) -> int:
        return self.samples * sum(
            n * (PREFIX + frames // PATCH_FRAMES * self.joints) for n, frames in self.views
        )


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
    differentiated: tuple[str, ...]
    """Those that get gradients."""
    autocast: bool = False
    """Whether both run under bf16 autocast."""


def prepare(
    problem: Problem, side: Callable[..., Tensor], cast: torch.dtype | None = None
) -> Callable[[], dict[str, Tensor]]:
    """A function that runs `side` forward and backward, and returns output and gradients by name.

    cast: all inputs in that dtype and no autocast.
    """
    inputs = {
        name: x.detach().to(cast or x.dtype).requires_grad_(name in problem.differentiated)
        for name, x in problem.inputs.items()
    }
    differentiated = [inputs[name] for name in problem.differentiated]
    device = differentiated[0].device
    cotangent: Tensor | None = None

    def run() -> dict[str, Tensor]:
        nonlocal cotangent
        with torch.autocast(device.type, torch.bfloat16, enabled=problem.autocast and cast is None):
            out = side(**inputs)
        if cotangent is None:  # exact in every dtype
            drawn = torch.randn(
                out.shape, device=device, generator=torch.Generator(device).manual_seed(0)
            )
            cotangent = drawn.bfloat16().to(out.dtype)
        gradients = torch.autograd.grad(out, differentiated, cotangent)
        names = (f"gradient of {name}" for name in problem.differentiated)
        return {"forward": out.detach(), **dict(zip(names, gradients, strict=True))}

    return run


class Draw:
    """Random tensors on a device; `low`: the dtype of matrix operands."""

    def __init__(self, device: torch.device, seed: int) -> None:
        self.device, self._generator = device, torch.Generator(device).manual_seed(seed)
        self.low = torch.bfloat16 if device.type == "cuda" else torch.float32

    def __call__(self, *shape: int, scale: float = 1.0, mean: float = 0.0) -> Tensor:
        return torch.randn(shape, device=self.device, generator=self._generator) * scale + mean

    def mask(self, *shape: int, fraction: float = 0.5) -> Tensor:
        return torch.rand(shape, device=self.device, generator=self._generator) < fraction

    def norm(self, width: int) -> dict[str, Tensor]:
        weight, bias = self(width, scale=0.1, mean=1.0), self(width, scale=0.1)
        return {"norm_weight": weight, "norm_bias": bias}


def embed_tokens(sizes: Sizes, draw: Draw, partly: bool = False) -> Problem:
    """partly: only some tokens are emitted, and the first group is not masked."""
    shapes = [(count * sizes.samples, frames) for count, frames in sizes.views]
    masks: list[Tensor | None] = [
        draw.mask(n, frames // PATCH_FRAMES, sizes.joints) for n, frames in shapes
    ]
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
    """hidden: the fraction of patch tokens that are no keys; 0: no `visible` is given."""
    packed = sizes.pack(draw.device)
    visible = (packed.time < 0) | ~draw.mask(sizes.tokens, fraction=hidden) if hidden else None
    qkv = draw(sizes.tokens, 3, sizes.heads, sizes.width // sizes.heads).to(draw.low)

    def ours(qkv: Tensor) -> Tensor:
        return slim_kernels.packed_attention(
            qkv,
            packed.cu_seqlens,
            packed.max_seqlen,
            time=packed.time,
            visible=visible,
            buckets=packed.buckets,
        )

    def eager(qkv: Tensor) -> Tensor:
        return eager_attention(qkv, packed.cu_seqlens, packed.max_seqlen, packed.time, visible)

    return Problem(ours, eager, {"qkv": qkv}, ("qkv",))


def differentiable(
    name: str, eager: Callable[..., Tensor], inputs: dict[str, Tensor], draw: Draw
) -> Problem:
    """An op all of whose inputs get gradients; it is looked up in slim_kernels at each call."""

    def ours(**given: Tensor) -> Tensor:
        out: Tensor = getattr(slim_kernels, name)(**given)
        return out

    return Problem(ours, eager, inputs, tuple(inputs), autocast=draw.device.type == "cuda")


def norm_linear(sizes: Sizes, draw: Draw) -> Problem:
    d = sizes.width
    inputs = {
        "x": draw(sizes.tokens, d),
        **draw.norm(d),
        "weight": draw(3 * d, d, scale=d**-0.5),
        "bias": draw(3 * d),
    }
    eager = partial(eager_norm_linear, eps=1e-6)
    return differentiable("norm_linear", eager, inputs, draw)


def linear_residual(sizes: Sizes, draw: Draw) -> Problem:
    d = sizes.width
    inputs = {
        "x": draw(sizes.tokens, d).to(draw.low),
        "weight": draw(d, d, scale=d**-0.5),
        "bias": draw(d),
        "residual": draw(sizes.tokens, d),
    }
    return differentiable("linear_residual", eager_linear_residual, inputs, draw)


def norm_swiglu(sizes: Sizes, draw: Draw) -> Problem:
    d, f = sizes.width, sizes.hidden
    inputs = {
        "x": draw(sizes.tokens, d),
        **draw.norm(d),
        "w12": draw(2 * f, d, scale=d**-0.5),
        "b12": draw(2 * f),
        "w3": draw(d, f, scale=f**-0.5),
        "b3": draw(d),
    }
    eager = partial(eager_norm_swiglu, eps=1e-6)
    return differentiable("norm_swiglu", eager, inputs, draw)


def logits(a: Tensor, b: Tensor) -> Tensor:
    """Cosines (N, K) in memory: fp16 on a GPU, as a careful eager implementation keeps them."""
    dtype = torch.float16 if a.is_cuda and a.dtype == torch.float32 else a.dtype
    return a.to(dtype) @ b.to(dtype).t()


def prototype_loss(
    sizes: Sizes, draw: Draw, shared: bool = False, budget: int | None = None
) -> Problem:
    """shared: five student rows have the same two teacher rows, as views of one clip do. budget:
    ours' `logits_budget`.
    """
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
            **given,
            weight=weight,
            target=target,
            student_temp=STUDENT_TEMPERATURE,
            teacher_temp=TEACHER_TEMPERATURE,
            logits_budget=budget,
        )

    def eager(weight: Tensor, student: Tensor, teacher: Tensor, **prototypes: Tensor) -> Tensor:
        targets = sinkhorn(logits(teacher, prototypes["teacher_prototypes"]), TEACHER_TEMPERATURE)
        if target is not None:
            targets = targets[target].mean(1)
        scores = logits(student, prototypes["student_prototypes"])
        return (weight * cross_entropy(targets, scores, STUDENT_TEMPERATURE)).sum()

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
    "prototype_loss, streamed": lambda sizes, draw: prototype_loss(sizes, draw, budget=0),
    "prototype_loss, shared targets": lambda sizes, draw: prototype_loss(sizes, draw, shared=True),
}
