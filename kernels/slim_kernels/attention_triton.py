"""Packed attention as Triton kernels: rotation in the loads of queries and keys, softmax over blocks of keys.

One program handles a block of queries (for the gradients of keys and values, a block of keys) of one head of one
sequence. Nothing is summed by atomics, so every run gives the same bits. The host reads no tensor: lengths reach the
kernels as cu_seqlens, and programs beyond a sequence's end leave at once.

Names: i_ program index, o_ offsets, m_ mask, b_ block in registers; bos, eos a sequence's bounds; BM, BN tile sizes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from slim_kernels.launch import Shipped, launch
from slim_kernels.registration import cast_under_autocast, count_flops, kernel_op
from slim_kernels.rotary import tables

HEADS = (16, 32, 64)
"""Head sizes that have kernels."""


@triton.jit
def load_block(p, i_part, i_head, o_row, m_row, P: tl.constexpr, H: tl.constexpr, D: tl.constexpr):
    """Rows of one part and head of (total, P, H, D): [B, D], zeros where masked."""
    o_d = tl.arange(0, D)
    base = (o_row.to(tl.int64) * P + i_part) * (H * D) + i_head * D  # [B]
    return tl.load(p + base[:, None] + o_d[None, :], mask=m_row[:, None], other=0.0)


@triton.jit
def store_block(p, b, i_part, i_head, o_row, m_row, P: tl.constexpr, H: tl.constexpr, D: tl.constexpr):
    """The inverse of load_block."""
    o_d = tl.arange(0, D)
    base = (o_row.to(tl.int64) * P + i_part) * (H * D) + i_head * D  # [B]
    tl.store(p + base[:, None] + o_d[None, :], b.to(p.dtype.element_ty), mask=m_row[:, None])


@triton.jit
def load_turns(cos, sin, time, o_row, m_row, D: tl.constexpr):
    """cos, and sin with a minus in the first half of the features, of each row's time: [B, D] twice."""
    o_d = tl.arange(0, D)
    b_time = tl.maximum(tl.load(time + o_row, mask=m_row, other=0), 0)  # [B]
    o_turn = b_time[:, None] * (D // 2) + (o_d % (D // 2))[None, :]
    sign = tl.where(o_d < D // 2, -1.0, 1.0)[None, :]
    b_cos, b_sin = tl.load(cos + o_turn), tl.load(sin + o_turn)
    return b_cos, b_sin * sign.to(b_sin.dtype)


@triton.jit
def load_turned(
    qkv, cos, sin, time, i_part, i_head, o_row, m_row, H: tl.constexpr, D: tl.constexpr, SWAPPED: tl.constexpr
):  # fmt: skip
    """Queries (i_part 0) or keys (1), rotated, in the tables' dtype: [B, D].

    SWAPPED: feature i in the place of i + D / 2 and the other way round; its products give what the inverse rotation of
    a product needs, without moving a product between threads.
    """
    o_d = tl.arange(0, D)
    base = (o_row.to(tl.int64) * 3 + i_part) * (H * D) + i_head * D  # [B]
    partner = (o_d + D // 2) % D
    b_x = tl.load(qkv + base[:, None] + o_d[None, :], mask=m_row[:, None], other=0.0)
    b_p = tl.load(qkv + base[:, None] + partner[None, :], mask=m_row[:, None], other=0.0)
    b_cos, b_sin = load_turns(cos, sin, time, o_row, m_row, D)
    if SWAPPED:
        return b_p.to(b_cos.dtype) * b_cos - b_x.to(b_cos.dtype) * b_sin
    return b_x.to(b_cos.dtype) * b_cos + b_p.to(b_cos.dtype) * b_sin


@triton.jit
def load_keys(keys, o_k, m_k, VISIBLE: tl.constexpr):
    """The packed tokens of some places in the list of keys."""
    if VISIBLE:
        return tl.load(keys + o_k, mask=m_k, other=0)
    return o_k


@triton.jit(do_not_specialize=["scale", "total", "first"])
def attention_forward_kernel(
    qkv, cos, sin, time, keys, cu_keys, cu_seqlens, out, lse, scale, total, first,
    H: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, VISIBLE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """out = softmax(q kᵀ · scale) v and lse (H, total), the log of the softmax's denominator."""
    i_s, i_m, i_h = first + tl.program_id(0), tl.program_id(1), tl.program_id(2)
    bos, eos = tl.load(cu_seqlens + i_s), tl.load(cu_seqlens + i_s + 1)
    if i_m * BM >= eos - bos:
        return
    o_m = bos + i_m * BM + tl.arange(0, BM)
    m_m = o_m < eos
    ACC: tl.constexpr = cos.dtype.element_ty
    TYPE: tl.constexpr = qkv.dtype.element_ty
    b_q = (load_turned(qkv, cos, sin, time, 0, i_h, o_m, m_m, H, D, False) * scale).to(TYPE)  # [BM, D]
    b_max = tl.full([BM], float("-inf"), ACC)
    b_sum = tl.zeros([BM], ACC)
    b_out = tl.zeros([BM, D], ACC)
    bok, eok = tl.load(cu_keys + i_s), tl.load(cu_keys + i_s + 1)
    for begin in range(bok, eok, BN):
        o_k = begin + tl.arange(0, BN)
        m_n = o_k < eok
        o_n = load_keys(keys, o_k, m_n, VISIBLE)
        b_k = load_turned(qkv, cos, sin, time, 1, i_h, o_n, m_n, H, D, False).to(TYPE)  # [BN, D]
        b_v = load_block(qkv, 2, i_h, o_n, m_n, 3, H, D)  # [BN, D]
        b_s = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION, out_dtype=ACC)  # [BM, BN]
        b_s = tl.where(m_n[None, :], b_s, float("-inf"))
        b_new = tl.maximum(b_max, tl.max(b_s, 1))
        b_old = tl.where(b_new == float("-inf"), 0.0, b_new)  # nothing seen yet: keep -inf - -inf out
        b_p = tl.exp(b_s - b_old[:, None])
        b_shrink = tl.exp(b_max - b_old)
        b_sum = b_sum * b_shrink + tl.sum(b_p, 1)
        b_out = b_out * b_shrink[:, None] + tl.dot(b_p.to(TYPE), b_v, input_precision=PRECISION, out_dtype=ACC)
        b_max = b_new
    store_block(out, b_out / b_sum[:, None], 0, i_h, o_m, m_m, 1, H, D)
    tl.store(lse + i_h.to(tl.int64) * total + o_m, b_max + tl.log(b_sum), mask=m_m)


@triton.jit(do_not_specialize=["scale", "total", "first"])
def attention_backward_queries_kernel(
    qkv, cos, sin, time, keys, cu_keys, cu_seqlens, grad, out, lse, delta, grad_qkv, scale, total, first,
    H: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, VISIBLE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The queries' gradient, a block of queries a program, rotated back; and delta (H, total), grad · out, for the
    keys' kernel.
    """
    i_s, i_m, i_h = first + tl.program_id(0), tl.program_id(1), tl.program_id(2)
    bos, eos = tl.load(cu_seqlens + i_s), tl.load(cu_seqlens + i_s + 1)
    if i_m * BM >= eos - bos:
        return
    o_m = bos + i_m * BM + tl.arange(0, BM)
    m_m = o_m < eos
    ACC: tl.constexpr = cos.dtype.element_ty
    TYPE: tl.constexpr = qkv.dtype.element_ty
    b_q = (load_turned(qkv, cos, sin, time, 0, i_h, o_m, m_m, H, D, False) * scale).to(TYPE)  # [BM, D]
    b_g = load_block(grad, 0, i_h, o_m, m_m, 1, H, D)  # [BM, D]
    b_delta = tl.sum(b_g.to(ACC) * load_block(out, 0, i_h, o_m, m_m, 1, H, D).to(ACC), 1)
    tl.store(delta + i_h.to(tl.int64) * total + o_m, b_delta, mask=m_m)
    b_g = b_g.to(TYPE)
    b_lse = tl.load(lse + i_h.to(tl.int64) * total + o_m, mask=m_m, other=0.0)
    b_dq, b_dp = tl.zeros([BM, D], ACC), tl.zeros([BM, D], ACC)
    bok, eok = tl.load(cu_keys + i_s), tl.load(cu_keys + i_s + 1)
    for begin in range(bok, eok, BN):
        o_k = begin + tl.arange(0, BN)
        m_n = o_k < eok
        o_n = load_keys(keys, o_k, m_n, VISIBLE)
        b_k = load_turned(qkv, cos, sin, time, 1, i_h, o_n, m_n, H, D, False).to(TYPE)  # [BN, D]
        b_r = load_turned(qkv, cos, sin, time, 1, i_h, o_n, m_n, H, D, True).to(TYPE)  # [BN, D]
        b_v = load_block(qkv, 2, i_h, o_n, m_n, 3, H, D)  # [BN, D]
        b_s = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION, out_dtype=ACC)  # [BM, BN]
        b_p = tl.exp(b_s - b_lse[:, None])
        b_p = tl.where(m_n[None, :], b_p, 0.0)
        b_w = tl.dot(b_g, tl.trans(b_v), input_precision=PRECISION, out_dtype=ACC)  # [BM, BN]
        b_ds = (b_p * (b_w - b_delta[:, None])).to(TYPE)
        b_dq += tl.dot(b_ds, b_k, input_precision=PRECISION, out_dtype=ACC)  # [BM, D]
        b_dp += tl.dot(b_ds, b_r, input_precision=PRECISION, out_dtype=ACC)  # the same with halves swapped
    b_cos, b_sin = load_turns(cos, sin, time, o_m, m_m, D)
    store_block(grad_qkv, (b_dq * b_cos - b_dp * b_sin) * scale, 0, i_h, o_m, m_m, 3, H, D)


@triton.jit(do_not_specialize=["scale", "total", "first"])
def attention_backward_keys_kernel(
    qkv, cos, sin, time, keys, cu_keys, cu_seqlens, grad, lse, delta, grad_qkv, scale, total, first,
    H: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, VISIBLE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradients of keys (rotated back) and values, a block of keys a program; scores are computed transposed."""
    i_s, i_n, i_h = first + tl.program_id(0), tl.program_id(1), tl.program_id(2)
    bos, eos = tl.load(cu_seqlens + i_s), tl.load(cu_seqlens + i_s + 1)
    bok, eok = tl.load(cu_keys + i_s), tl.load(cu_keys + i_s + 1)
    if i_n * BN >= eok - bok:
        return
    o_k = bok + i_n * BN + tl.arange(0, BN)
    m_n = o_k < eok
    o_n = load_keys(keys, o_k, m_n, VISIBLE)
    ACC: tl.constexpr = cos.dtype.element_ty
    TYPE: tl.constexpr = qkv.dtype.element_ty
    b_k = load_turned(qkv, cos, sin, time, 1, i_h, o_n, m_n, H, D, False).to(TYPE)  # [BN, D]
    b_v = load_block(qkv, 2, i_h, o_n, m_n, 3, H, D)  # [BN, D]
    b_dk, b_dr, b_dv = tl.zeros([BN, D], ACC), tl.zeros([BN, D], ACC), tl.zeros([BN, D], ACC)
    for begin in range(bos, eos, BM):
        o_m = begin + tl.arange(0, BM)
        m_m = o_m < eos
        b_q = (load_turned(qkv, cos, sin, time, 0, i_h, o_m, m_m, H, D, False) * scale).to(TYPE)  # [BM, D]
        b_r = (load_turned(qkv, cos, sin, time, 0, i_h, o_m, m_m, H, D, True) * scale).to(TYPE)  # [BM, D]
        b_g = load_block(grad, 0, i_h, o_m, m_m, 1, H, D).to(TYPE)  # [BM, D]
        b_lse = tl.load(lse + i_h.to(tl.int64) * total + o_m, mask=m_m, other=0.0)
        b_delta = tl.load(delta + i_h.to(tl.int64) * total + o_m, mask=m_m, other=0.0)
        b_s = tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION, out_dtype=ACC)  # [BN, BM]
        b_p = tl.where(m_n[:, None] & m_m[None, :], tl.exp(b_s - b_lse[None, :]), 0.0)
        b_dv += tl.dot(b_p.to(TYPE), b_g, input_precision=PRECISION, out_dtype=ACC)  # [BN, D]
        b_w = tl.dot(b_v, tl.trans(b_g), input_precision=PRECISION, out_dtype=ACC)  # [BN, BM]
        b_ds = (b_p * (b_w - b_delta[None, :])).to(TYPE)
        b_dk += tl.dot(b_ds, b_q, input_precision=PRECISION, out_dtype=ACC)  # [BN, D]
        b_dr += tl.dot(b_ds, b_r, input_precision=PRECISION, out_dtype=ACC)  # the same with halves swapped
    b_cos, b_sin = load_turns(cos, sin, time, o_n, m_n, D)
    store_block(grad_qkv, b_dk * b_cos - b_dr * b_sin, 1, i_h, o_n, m_n, 3, H, D)
    store_block(grad_qkv, b_dv, 2, i_h, o_n, m_n, 3, H, D)


def _variants(longest: int, head: int) -> Iterator[dict[str, Any]]:
    for visible in (False, True):
        yield {"H": 8, "D": head, "VISIBLE": visible, "PRECISION": "ieee"}


_TYPES = {
    "qkv": "T", "out": "T", "grad": "T", "grad_qkv": "T", "cos": "fp32", "sin": "fp32", "time": "i32", "keys": "i32",
    "cu_keys": "i32", "cu_seqlens": "i32", "lse": "fp32", "delta": "fp32",
}  # fmt: skip
_SCALARS = {"scale": "fp32", "total": "i32", "first": "i32"}
_SIZES = ((32, 1024), HEADS)
SHIPPED = {
    "attention_forward": Shipped(attention_forward_kernel, _TYPES, _SIZES, _variants, _SCALARS, ("T",)),
    "attention_backward_queries": Shipped(
        attention_backward_queries_kernel, _TYPES, _SIZES, _variants, _SCALARS, ("T",)
    ),
    "attention_backward_keys": Shipped(attention_backward_keys_kernel, _TYPES, _SIZES, _variants, _SCALARS, ("T",)),
}


def visible_keys(visible: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
    """The visible tokens in order (int32 (total,), the rest zeros), and where each sequence's begin in that list
    (int32 (S + 1,)). Of fixed shapes, so nothing is read on the host.
    """
    count = visible.cumsum(0)
    place = torch.where(visible, count - 1, len(visible))  # hidden tokens go behind the list
    keys = cu_seqlens.new_zeros(len(visible) + 1)
    keys.scatter_(0, place, torch.arange(len(visible), dtype=keys.dtype, device=keys.device))
    bounds = torch.cat([count.new_zeros(1), count])[cu_seqlens.long()]
    return keys[:-1], bounds.to(cu_seqlens.dtype)


def _launches(
    kernel: str, qkv: Tensor, sequences: int, max_seqlen: int, buckets: Sequence[int] | None, side: str
) -> Iterator[tuple[tuple[int, int, int], int, dict[str, int]]]:
    """Grid, first sequence and tile sizes for each bucket (its sequences, its longest) of neighbouring sequences."""
    _, _, heads, d = qkv.shape
    numbers = (sequences, max_seqlen) if buckets is None else buckets
    first = 0
    for count, longest in zip(numbers[::2], numbers[1::2], strict=True):
        tile = launch(kernel, qkv.device, longest, d)
        if count and longest:
            yield (count, triton.cdiv(longest, tile[side]), heads), first, tile
        first += count


@kernel_op("slim_kernels::packed_attention")
def packed_attention(
    qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int, time: Tensor, visible: Tensor | None,
    buckets: Sequence[int] | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The output (total, H, d) and the softmax's log-sum-exp (H, total), in float32 at least."""
    qkv, cu_seqlens, time = qkv.contiguous(), cu_seqlens.contiguous(), time.contiguous()
    total, _, heads, d = qkv.shape
    cos, sin = tables(d // 2, max(max_seqlen, 1), qkv.device, torch.promote_types(qkv.dtype, torch.float32))
    out, lse = qkv.new_empty(total, heads, d), cos.new_empty(heads, total)
    keys, cu_keys = (cu_seqlens, cu_seqlens) if visible is None else visible_keys(visible, cu_seqlens)
    for grid, first, tile in _launches(
        "attention_forward", qkv, len(cu_seqlens) - 1, max_seqlen, buckets, "BM"
    ):  # fmt: skip
        attention_forward_kernel[grid](
            qkv, cos, sin, time, keys, cu_keys, cu_seqlens, out, lse, d**-0.5, total, first,
            H=heads, D=d, VISIBLE=visible is not None, PRECISION="ieee", **tile,
        )  # fmt: skip
    return out, lse


@packed_attention.register_fake
def _(qkv: Tensor, cu_seqlens: Tensor, *_others: Any) -> tuple[Tensor, Tensor]:
    total, _, heads, d = qkv.shape
    wide = torch.promote_types(qkv.dtype, torch.float32)
    return qkv.new_empty(total, heads, d), qkv.new_empty(heads, total, dtype=wide)


@kernel_op("slim_kernels::packed_attention_backward")
def packed_attention_backward(
    grad: Tensor, qkv: Tensor, out: Tensor, lse: Tensor, cu_seqlens: Tensor, max_seqlen: int, time: Tensor,
    visible: Tensor | None, buckets: Sequence[int] | None,
) -> Tensor:  # fmt: skip
    """The gradient of qkv, (total, 3, H, d)."""
    grad, qkv, out, cu_seqlens, time = (v.contiguous() for v in (grad, qkv, out, cu_seqlens, time))
    total, _, heads, d = qkv.shape
    cos, sin = tables(d // 2, max(max_seqlen, 1), qkv.device, lse.dtype)
    delta = torch.empty_like(lse)
    # Nobody asks a hidden token, so its key and value have no gradient.
    grad_qkv = torch.empty_like(qkv) if visible is None else torch.zeros_like(qkv)
    keys, cu_keys = (cu_seqlens, cu_seqlens) if visible is None else visible_keys(visible, cu_seqlens)
    where = (qkv, cos, sin, time, keys, cu_keys, cu_seqlens)
    constants = {"H": heads, "D": d, "VISIBLE": visible is not None, "PRECISION": "ieee"}
    scale, sequences = d**-0.5, len(cu_seqlens) - 1
    for grid, first, tile in _launches("attention_backward_queries", qkv, sequences, max_seqlen, buckets, "BM"):
        attention_backward_queries_kernel[grid](
            *where, grad, out, lse, delta, grad_qkv, scale, total, first, **constants, **tile
        )
    for grid, first, tile in _launches("attention_backward_keys", qkv, sequences, max_seqlen, buckets, "BN"):
        attention_backward_keys_kernel[grid](
            *where, grad, lse, delta, grad_qkv, scale, total, first, **constants, **tile
        )  # fmt: skip
    return grad_qkv


@packed_attention_backward.register_fake
def _(grad: Tensor, qkv: Tensor, *_others: Any) -> Tensor:
    return torch.empty_like(qkv, memory_format=torch.contiguous_format)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    qkv, cu_seqlens, max_seqlen, time, visible, buckets = inputs
    ctx.save_for_backward(qkv, *output, cu_seqlens, time, visible)
    ctx.max_seqlen, ctx.buckets = max_seqlen, buckets


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    qkv, out, lse, cu_seqlens, time, visible = ctx.saved_tensors
    grad_qkv = packed_attention_backward(
        grad, qkv, out, lse, cu_seqlens, ctx.max_seqlen, time, visible, ctx.buckets
    )  # fmt: skip
    return grad_qkv, None, None, None, None, None


def _flops(products: int, qkv: Tensor, cu_seqlens: Tensor, visible: Tensor | None) -> int:
    """`products` of queries by keys; which there are is read from the tensors."""
    queries = cu_seqlens.diff().long()
    keys = queries if visible is None else visible_keys(visible, cu_seqlens)[1].diff().long()
    return 2 * products * qkv.shape[2] * qkv.shape[3] * int((queries * keys).sum())


packed_attention.register_autograd(_backward, setup_context=_setup)
cast_under_autocast(packed_attention, "qkv")
count_flops(packed_attention, lambda qkv, cu, _, time, visible, *__: _flops(2, qkv, cu, visible))
count_flops(packed_attention_backward, lambda g, qkv, o, lse, cu, _, t, visible, *__: _flops(5, qkv, cu, visible))
