"""embed_tokens as Triton kernels: patches are read from the clips and written as packed tokens in one pass.

The gradients of all parameters are one product Aᵀ g: a token's row of A holds its patch's coordinates, ones for the
bias or the mask token, and for its joint or prefix. A is made in registers, so g is read once and nothing is summed by
atomics.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from slim_kernels.launch import Shipped, launch
from slim_kernels.norm_triton import exact
from slim_kernels.registration import cast_under_autocast, count_flops, kernel_op
from slim_kernels.rows_triton import PADDED, load_feature, load_rows, padded, store_rows

# Programs that share the tokens of the gradients' sums.
MOST_PROGRAMS = 256


@triton.jit
def place_tokens(index, o_m, m_m, start, length, clips, V: tl.constexpr, R: tl.constexpr, INDEX: tl.constexpr):
    """Where packed tokens come from: whether from this group of `clips` sequences of `length`, the clip, the place in
    its sequence, and for patches the temporal token and the joint.
    """
    o_r = tl.load(index + o_m, mask=m_m, other=-1) if INDEX else o_m.to(tl.int64)
    o_r -= start
    m_g = m_m & (o_r >= 0) & (o_r < clips * length)
    o_r = tl.where(m_g, o_r, 0)
    o_c, o_j = o_r // length, o_r % length
    o_q = tl.maximum(o_j - R, 0)
    return m_g, o_c, o_j, o_q // V, o_q % V


@triton.jit
def load_masked(mask, m_patch, o_c, o_t, o_v, steps, V: tl.constexpr, MASK: tl.constexpr):
    """Which patches are hidden: [B] bool; mask (clips, steps, V) or none."""
    if MASK:
        return m_patch & (tl.load(mask + (o_c * steps + o_t) * V + o_v, mask=m_patch, other=0) != 0)
    return m_patch & (o_c < 0)


@triton.jit
def coordinate_place(o_c, o_t, o_v, o_k, s_n, s_t, s_v, s_c, P: tl.constexpr):
    """Offsets of coordinate o_k = channel · P + frame of patches, all int64 and of one shape after broadcasting."""
    return o_c * s_n + (o_t * P + o_k % P) * s_t + o_v * s_v + (o_k // P).to(tl.int64) * s_c


@triton.jit(do_not_specialize=["total", "start", "clips", "steps", "s_n", "s_t", "s_v", "s_c"])
def embed_kernel(
    x, mask, index, weight, bias, mask_token, joints, prefix, out, total, start, clips, steps, s_n, s_t, s_v, s_c,
    D: tl.constexpr, DP: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, P: tl.constexpr, V: tl.constexpr,
    R: tl.constexpr, MASK: tl.constexpr, INDEX: tl.constexpr, BM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The packed tokens that come from one group of clips x (clips, steps · P, V, C) of any strides."""
    ACC: tl.constexpr = bias.dtype.element_ty
    o_m = tl.program_id(0) * BM + tl.arange(0, BM)
    o_d, o_k = tl.arange(0, DP), tl.arange(0, KP)
    m_g, o_c, o_j, o_t, o_v = place_tokens(index, o_m, o_m < total, start, R + steps * V, clips, V, R, INDEX)
    if tl.max(m_g.to(tl.int32), 0) > 0:
        m_patch = m_g & (o_j >= R)
        m_hidden = load_masked(mask, m_patch, o_c, o_t, o_v, steps, V, MASK)
        m_seen = m_patch & (m_hidden == 0)
        m_d = (o_d < D)[None, :]
        place = coordinate_place(o_c[:, None], o_t[:, None], o_v[:, None], o_k[None, :], s_n, s_t, s_v, s_c, P)
        b_x = tl.load(x + place, mask=m_seen[:, None] & (o_k < K)[None, :], other=0.0)  # [BM, KP]
        b_w = tl.load(weight + o_d[None, :] * K + o_k[:, None], mask=m_d & (o_k < K)[:, None], other=0.0)  # [KP, DP]
        b_y = tl.dot(b_x.to(b_w.dtype), b_w, input_precision=PRECISION, out_dtype=ACC) + load_feature(bias, D, DP)
        b_y = tl.where(m_hidden[:, None], load_feature(mask_token, D, DP), b_y)
        b_y += tl.load(joints + o_v[:, None] * D + o_d[None, :], mask=m_patch[:, None] & m_d, other=0.0)
        m_prefix = (m_g & (o_j < R))[:, None]
        b_p = tl.load(prefix + o_j[:, None] * D + o_d[None, :], mask=m_prefix & m_d, other=0.0)
        store_rows(out, tl.where(m_prefix, b_p, b_y), tl.program_id(0) * BM, m_g, D, DP, BM)


@triton.jit(do_not_specialize=["total", "span", "start", "clips", "steps", "s_n", "s_t", "s_v", "s_c"])
def embed_backward_kernel(
    grad, x, mask, index, parts, total, span, start, clips, steps, s_n, s_t, s_v, s_c,
    D: tl.constexpr, DP: tl.constexpr, K: tl.constexpr, P: tl.constexpr, V: tl.constexpr, R: tl.constexpr,
    F: tl.constexpr, MASK: tl.constexpr, INDEX: tl.constexpr, BM: tl.constexpr, BF: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """parts (programs, F, D): Aᵀ g over this program's `span` tokens, for BF of the F = K + 2 + V + R features of A."""
    i_p, i_f = tl.program_id(0), tl.program_id(1)
    ACC: tl.constexpr = parts.dtype.element_ty
    o_d, o_f = tl.arange(0, DP), i_f * BF + tl.arange(0, BF)
    o_k = tl.minimum(o_f, K - 1)[:, None]
    b_parts = tl.zeros([BF, DP], ACC)
    end = tl.minimum((i_p + 1) * span, total)
    for first in range(i_p * span, end, BM):
        o_m = first + tl.arange(0, BM)
        m_g, o_c, o_j, o_t, o_v = place_tokens(index, o_m, o_m < end, start, R + steps * V, clips, V, R, INDEX)
        m_patch = m_g & (o_j >= R)
        m_hidden = load_masked(mask, m_patch, o_c, o_t, o_v, steps, V, MASK)
        m_seen = m_patch & (m_hidden == 0)
        place = coordinate_place(o_c[None, :], o_t[None, :], o_v[None, :], o_k, s_n, s_t, s_v, s_c, P)
        b_a = tl.load(x + place, mask=m_seen[None, :] & (o_f < K)[:, None], other=0.0).to(ACC)  # [BF, BM]
        o_one = tl.where(m_hidden, K + 1, K)  # the feature of bias or mask token
        o_which = tl.where(m_patch, K + 2 + o_v, K + 2 + V + o_j)  # the feature of joint or prefix
        b_one = ((o_f[:, None] == o_one[None, :]) & m_patch[None, :]) | (
            (o_f[:, None] == o_which[None, :]) & m_g[None, :]
        )
        b_a = tl.where(b_one, 1.0, b_a)
        b_g = load_rows(grad, first, m_g, D, DP, BM).to(ACC)  # [BM, DP]
        b_parts += tl.dot(b_a, b_g, input_precision=PRECISION, out_dtype=ACC)
    place = (i_p.to(tl.int64) * F + o_f)[:, None] * D + o_d[None, :]
    tl.store(parts + place, b_parts, mask=(o_f < F)[:, None] & (o_d < D)[None, :])


def _variants(width: int) -> Iterator[dict[str, Any]]:
    for mask, index in itertools.product((True, False), repeat=2):
        yield {"D": width, "DP": width, "K": 24, "KP": 32, "P": 8, "V": 25, "R": 5, "MASK": mask, "INDEX": index,
               "PRECISION": "tf32x3"}  # fmt: skip


def _backward_variants(width: int) -> Iterator[dict[str, Any]]:
    for variant in _variants(width):
        variant.pop("KP")
        yield {"F": 56, **variant}


_TYPES = {
    "x": "S", "mask": "i1", "index": "i64", "weight": "fp32", "bias": "fp32", "mask_token": "fp32", "joints": "fp32",
    "prefix": "fp32", "out": "S", "grad": "S", "parts": "fp32",
}  # fmt: skip
_STRIDES = {"s_n": "i64", "s_t": "i64", "s_v": "i64", "s_c": "i64"}
_SCALARS = {"total": "i32", "span": "i32", "start": "i64", "clips": "i64", "steps": "i64", **_STRIDES}
SHIPPED = {
    "embed": Shipped(embed_kernel, _TYPES, (PADDED,), _variants, _SCALARS),
    "embed_backward": Shipped(embed_backward_kernel, _TYPES, (PADDED,), _backward_variants, _SCALARS),
}


def _precision(x: Tensor) -> str:
    """Near float32's on a tensor core; an interpreter computes exactly."""
    return "tf32x3" if x.device.type == "cuda" else "ieee"


def _groups(
    clips: Sequence[Tensor], masks: Sequence[Tensor], patch: int, prefix: int
) -> Iterator[tuple[Tensor, Tensor | None, dict[str, int]]]:
    """Each group's clips, mask (None for an empty one) and numbers; `start`: its first token if none is left out."""
    start = 0
    for x, mask in zip(clips, masks, strict=True):
        count, frames, joints, _ = x.shape
        steps = frames // patch
        strides = dict(zip(("s_n", "s_t", "s_v", "s_c"), x.stride(), strict=True))
        yield x, mask.contiguous() if mask.numel() else None, {
            "start": start, "clips": count, "steps": steps, **strides,
        }  # fmt: skip
        start += count * (prefix + steps * joints)


def full_length(clips: Sequence[Tensor], patch: int, prefix: int) -> int:
    """Tokens of all clips (N, T, V, C) where none is left out."""
    return sum(x.shape[0] * (prefix + x.shape[1] // patch * x.shape[2]) for x in clips)


@kernel_op("slim_kernels::embed_tokens")
def embed_tokens(
    clips: Sequence[Tensor], masks: Sequence[Tensor], weight: Tensor, bias: Tensor, mask_token: Tensor,
    joints: Tensor, prefix: Tensor, index: Tensor | None,
) -> Tensor:  # fmt: skip
    """(total, D) in the joint embedding's dtype. masks: empty where a group has none, for autograd knows no lists that
    hold None.
    """
    (width, channels, patch), count, dtype = weight.shape, len(joints), joints.dtype
    total = full_length(clips, patch, len(prefix)) if index is None else len(index)
    tile = launch("embed", joints.device, width)
    weight, bias, mask_token, joints, prefix = exact(weight, bias, mask_token, joints, prefix)
    out = joints.new_empty(total, width, dtype=dtype)
    if total:
        for x, mask, numbers in _groups(clips, masks, patch, len(prefix)):
            embed_kernel[triton.cdiv(total, tile["BM"]),](
                x, x if mask is None else mask, x if index is None else index.contiguous(), weight, bias, mask_token,
                joints, prefix, out, total, **numbers, D=width, DP=padded(width), K=channels * patch,
                KP=max(16, triton.next_power_of_2(channels * patch)), P=patch, V=count, R=len(prefix),
                MASK=mask is not None, INDEX=index is not None, PRECISION=_precision(x), **tile,
            )  # fmt: skip
    return out


@embed_tokens.register_fake
def _(
    clips: Sequence[Tensor], masks: Sequence[Tensor], weight: Tensor, bias: Tensor, mask_token: Tensor,
    joints: Tensor, prefix: Tensor, index: Tensor | None,
) -> Tensor:  # fmt: skip
    total = full_length(clips, weight.shape[2], prefix.shape[0]) if index is None else index.shape[0]
    return joints.new_empty(total, weight.shape[0])


@kernel_op("slim_kernels::embed_tokens_backward")
def embed_tokens_backward(
    grad: Tensor, clips: Sequence[Tensor], masks: Sequence[Tensor], weight: Tensor, bias: Tensor,
    mask_token: Tensor, joints: Tensor, prefix: Tensor, index: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of weight, bias, mask_token, joints and prefix."""
    grad = grad.contiguous()
    (width, channels, patch), count, registers = weight.shape, len(joints), len(prefix)
    size = channels * patch
    features = size + 2 + count + registers
    tile = launch("embed_backward", grad.device, width)
    span = triton.cdiv(triton.cdiv(len(grad), MOST_PROGRAMS), tile["BM"]) * tile["BM"]
    programs = triton.cdiv(len(grad), span) if span else 0
    dtype = torch.promote_types(grad.dtype, torch.float32)
    parts = grad.new_empty(len(clips), programs, features, width, dtype=dtype)
    if programs:
        for part, (x, mask, numbers) in zip(parts, _groups(clips, masks, patch, registers), strict=True):
            embed_backward_kernel[programs, triton.cdiv(features, tile["BF"])](
                grad, x, x if mask is None else mask, x if index is None else index.contiguous(), part, len(grad), span,
                **numbers, D=width, DP=padded(width), K=size, P=patch, V=count, R=registers, F=features,
                MASK=mask is not None, INDEX=index is not None, PRECISION=_precision(x), **tile,
            )  # fmt: skip
    w, b, m, j, p = parts.sum((0, 1)).split([size, 1, 1, count, registers])
    return (
        w.t().contiguous().view(width, channels, patch).to(weight.dtype),
        b[0].to(bias.dtype, copy=True),
        m[0].to(mask_token.dtype, copy=True),
        j.to(joints.dtype, copy=True),
        p.to(prefix.dtype, copy=True),
    )


@embed_tokens_backward.register_fake
def _(grad: Tensor, clips: Sequence[Tensor], masks: Sequence[Tensor], *parameters: Any) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(v, memory_format=torch.contiguous_format) for v in parameters[:-1])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    clips, masks, *parameters = inputs
    ctx.groups = len(clips)
    ctx.save_for_backward(*clips, *masks, *parameters)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    saved, n = ctx.saved_tensors, ctx.groups
    clips, masks = list(saved[:n]), list(saved[n : 2 * n])
    return ([None] * n, [None] * n, *embed_tokens_backward(grad, clips, masks, *saved[2 * n :]), None)


def _flops(clips: Sequence[Tensor], weight: Tensor) -> int:
    return 2 * weight.numel() * sum(len(x) * (x.shape[1] // weight.shape[2]) * x.shape[2] for x in clips)


embed_tokens.register_autograd(_gradients, setup_context=_setup)
cast_under_autocast(embed_tokens)
count_flops(embed_tokens, lambda clips, masks, weight, *_: _flops(clips, weight))
count_flops(embed_tokens_backward, lambda grad, clips, masks, weight, *_: _flops(clips, weight))
