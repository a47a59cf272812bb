"""Packed attention as Triton kernels: rotation in the loads of queries and keys, softmax over blocks of keys.

One program handles a block of queries (for the gradients of keys and values, a block of keys) of one head of one
sequence. Nothing is summed by atomics, so every run gives the same bits. The host reads no tensor: lengths reach the
kernels as cu_seqlens, and programs beyond a sequence's end leave at once.

Names: i_ program index, o_ offsets, m_ mask, b_ block in registers; bos, eos a sequence's bounds; BM, BN tile sizes.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from slim_kernels.launch import architecture, attention_launch
from slim_kernels.rotary import tables


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
def load_keep(visible, o_row, m_row, VISIBLE: tl.constexpr):
    """Which rows may be attended to: [B] bool."""
    if VISIBLE:
        return m_row & (tl.load(visible + o_row, mask=m_row, other=0) != 0)
    return m_row


@triton.jit(do_not_specialize=["scale"])
def forward_kernel(
    qkv, cos, sin, time, visible, cu_seqlens, out, lse, scale, total,
    H: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, VISIBLE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """out = softmax(q kᵀ · scale) v and lse (H, total), the log of the softmax's denominator."""
    i_s, i_m, i_h = tl.program_id(0), tl.program_id(1), tl.program_id(2)
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
    for first in range(bos, eos, BN):
        o_n = first + tl.arange(0, BN)
        m_n = o_n < eos
        b_k = load_turned(qkv, cos, sin, time, 1, i_h, o_n, m_n, H, D, False).to(TYPE)  # [BN, D]
        b_v = load_block(qkv, 2, i_h, o_n, m_n, 3, H, D)  # [BN, D]
        b_s = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION, out_dtype=ACC)  # [BM, BN]
        b_s = tl.where(load_keep(visible, o_n, m_n, VISIBLE)[None, :], b_s, float("-inf"))
        b_new = tl.maximum(b_max, tl.max(b_s, 1))
        b_old = tl.where(b_new == float("-inf"), 0.0, b_new)  # nothing seen yet: keep -inf - -inf out
        b_p = tl.exp(b_s - b_old[:, None])
        b_shrink = tl.exp(b_max - b_old)
        b_sum = b_sum * b_shrink + tl.sum(b_p, 1)
        b_out = b_out * b_shrink[:, None] + tl.dot(b_p.to(TYPE), b_v, input_precision=PRECISION, out_dtype=ACC)
        b_max = b_new
    store_block(out, b_out / b_sum[:, None], 0, i_h, o_m, m_m, 1, H, D)
    tl.store(lse + i_h.to(tl.int64) * total + o_m, b_max + tl.log(b_sum), mask=m_m)


@triton.jit(do_not_specialize=["scale"])
def backward_queries_kernel(
    qkv, cos, sin, time, visible, cu_seqlens, grad, lse, delta, grad_qkv, scale, total,
    H: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, VISIBLE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The queries' gradient, a block of queries a program, rotated back."""
    i_s, i_m, i_h = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    bos, eos = tl.load(cu_seqlens + i_s), tl.load(cu_seqlens + i_s + 1)
    if i_m * BM >= eos - bos:
        return
    o_m = bos + i_m * BM + tl.arange(0, BM)
    m_m = o_m < eos
    ACC: tl.constexpr = cos.dtype.element_ty
    TYPE: tl.constexpr = qkv.dtype.element_ty
    b_q = (load_turned(qkv, cos, sin, time, 0, i_h, o_m, m_m, H, D, False) * scale).to(TYPE)  # [BM, D]
    b_g = load_block(grad, 0, i_h, o_m, m_m, 1, H, D).to(TYPE)  # [BM, D]
    b_lse = tl.load(lse + i_h.to(tl.int64) * total + o_m, mask=m_m, other=0.0)
    b_delta = tl.load(delta + i_h.to(tl.int64) * total + o_m, mask=m_m, other=0.0)
    b_dq, b_dp = tl.zeros([BM, D], ACC), tl.zeros([BM, D], ACC)
    for first in range(bos, eos, BN):
        o_n = first + tl.arange(0, BN)
        m_n = o_n < eos
        b_k = load_turned(qkv, cos, sin, time, 1, i_h, o_n, m_n, H, D, False).to(TYPE)  # [BN, D]
        b_r = load_turned(qkv, cos, sin, time, 1, i_h, o_n, m_n, H, D, True).to(TYPE)  # [BN, D]
        b_v = load_block(qkv, 2, i_h, o_n, m_n, 3, H, D)  # [BN, D]
        b_s = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION, out_dtype=ACC)  # [BM, BN]
        b_p = tl.exp(b_s - b_lse[:, None])
        b_p = tl.where(load_keep(visible, o_n, m_n, VISIBLE)[None, :], b_p, 0.0)
        b_w = tl.dot(b_g, tl.trans(b_v), input_precision=PRECISION, out_dtype=ACC)  # [BM, BN]
        b_ds = (b_p * (b_w - b_delta[:, None])).to(TYPE)
        b_dq += tl.dot(b_ds, b_k, input_precision=PRECISION, out_dtype=ACC)  # [BM, D]
        b_dp += tl.dot(b_ds, b_r, input_precision=PRECISION, out_dtype=ACC)  # the same with halves swapped
    b_cos, b_sin = load_turns(cos, sin, time, o_m, m_m, D)
    store_block(grad_qkv, (b_dq * b_cos - b_dp * b_sin) * scale, 0, i_h, o_m, m_m, 3, H, D)


@triton.jit(do_not_specialize=["scale"])
def backward_keys_kernel(
    qkv, cos, sin, time, visible, cu_seqlens, grad, lse, delta, grad_qkv, scale, total,
    H: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, VISIBLE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradients of keys (rotated back) and values, a block of keys a program; scores are computed transposed."""
    i_s, i_n, i_h = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    bos, eos = tl.load(cu_seqlens + i_s), tl.load(cu_seqlens + i_s + 1)
    if i_n * BN >= eos - bos:
        return
    o_n = bos + i_n * BN + tl.arange(0, BN)
    m_n = o_n < eos
    ACC: tl.constexpr = cos.dtype.element_ty
    TYPE: tl.constexpr = qkv.dtype.element_ty
    b_k = load_turned(qkv, cos, sin, time, 1, i_h, o_n, m_n, H, D, False).to(TYPE)  # [BN, D]
    b_v = load_block(qkv, 2, i_h, o_n, m_n, 3, H, D)  # [BN, D]
    m_keep = load_keep(visible, o_n, m_n, VISIBLE)
    b_dk, b_dr, b_dv = tl.zeros([BN, D], ACC), tl.zeros([BN, D], ACC), tl.zeros([BN, D], ACC)
    for first in range(bos, eos, BM):
        o_m = first + tl.arange(0, BM)
        m_m = o_m < eos
        b_q = (load_turned(qkv, cos, sin, time, 0, i_h, o_m, m_m, H, D, False) * scale).to(TYPE)  # [BM, D]
        b_r = (load_turned(qkv, cos, sin, time, 0, i_h, o_m, m_m, H, D, True) * scale).to(TYPE)  # [BM, D]
        b_g = load_block(grad, 0, i_h, o_m, m_m, 1, H, D).to(TYPE)  # [BM, D]
        b_lse = tl.load(lse + i_h.to(tl.int64) * total + o_m, mask=m_m, other=0.0)
        b_delta = tl.load(delta + i_h.to(tl.int64) * total + o_m, mask=m_m, other=0.0)
        b_s = tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION, out_dtype=ACC)  # [BN, BM]
        b_p = tl.where(m_keep[:, None] & m_m[None, :], tl.exp(b_s - b_lse[None, :]), 0.0)
        b_dv += tl.dot(b_p.to(TYPE), b_g, input_precision=PRECISION, out_dtype=ACC)  # [BN, D]
        b_w = tl.dot(b_v, tl.trans(b_g), input_precision=PRECISION, out_dtype=ACC)  # [BN, BM]
        b_ds = (b_p * (b_w - b_delta[None, :])).to(TYPE)
        b_dk += tl.dot(b_ds, b_q, input_precision=PRECISION, out_dtype=ACC)  # [BN, D]
        b_dr += tl.dot(b_ds, b_r, input_precision=PRECISION, out_dtype=ACC)  # the same with halves swapped
    b_cos, b_sin = load_turns(cos, sin, time, o_n, m_n, D)
    store_block(grad_qkv, b_dk * b_cos - b_dr * b_sin, 1, i_h, o_n, m_n, 3, H, D)
    store_block(grad_qkv, b_dv, 2, i_h, o_n, m_n, 3, H, D)


def _contiguous(
    qkv: Tensor, cu_seqlens: Tensor, time: Tensor, visible: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The kernels step through memory themselves."""
    return (
        qkv.contiguous(),
        cu_seqlens.contiguous(),
        time.contiguous(),
        None if visible is None else visible.contiguous(),
    )


@torch.library.custom_op("slim_kernels::attention_forward", mutates_args=())
def attention_forward(
    qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int, time: Tensor, visible: Tensor | None
) -> tuple[Tensor, Tensor]:
    """packed_attention's output (total, H, d) and the softmax's log-sum-exp (H, total), in float32 at least."""
    qkv, cu_seqlens, time, visible = _contiguous(qkv, cu_seqlens, time, visible)
    total, _, heads, d = qkv.shape
    cos, sin = tables(d // 2, max(max_seqlen, 1), qkv.device, torch.promote_types(qkv.dtype, torch.float32))
    out, lse = qkv.new_empty(total, heads, d), cos.new_empty(heads, total)
    launch = attention_launch("forward", max_seqlen, d, architecture(qkv.device))
    if total:
        forward_kernel[len(cu_seqlens) - 1, triton.cdiv(max_seqlen, launch["BM"]), heads](
            qkv, cos, sin, time, cu_seqlens if visible is None else visible, cu_seqlens, out, lse, d**-0.5, total,
            H=heads, D=d, VISIBLE=visible is not None, PRECISION="ieee", **launch,
        )  # fmt: skip
    return out, lse


@attention_forward.register_fake
def _(qkv: Tensor, cu_seqlens: Tensor, max_seqlen: int, time: Tensor, visible: Tensor | None) -> tuple[Tensor, Tensor]:
    total, _, heads, d = qkv.shape
    return qkv.new_empty(total, heads, d), qkv.new_empty(
        heads, total, dtype=torch.promote_types(qkv.dtype, torch.float32)
    )


@torch.library.custom_op("slim_kernels::attention_backward", mutates_args=())
def attention_backward(
    grad: Tensor,
    qkv: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    time: Tensor,
    visible: Tensor | None,
) -> Tensor:
    """The gradient of qkv, (total, 3, H, d)."""
    grad = grad.contiguous()
    qkv, cu_seqlens, time, visible = _contiguous(qkv, cu_seqlens, time, visible)
    total, _, heads, d = qkv.shape
    cos, sin = tables(d // 2, max(max_seqlen, 1), qkv.device, lse.dtype)
    delta = torch.linalg.vecdot(grad.to(lse.dtype), out.to(lse.dtype)).t().contiguous()  # (H, total)
    grad_qkv = torch.empty_like(qkv)
    if total:
        for kernel, name, side in (
            (backward_queries_kernel, "backward_queries", "BM"),
            (backward_keys_kernel, "backward_keys", "BN"),
        ):
            launch = attention_launch(name, max_seqlen, d, architecture(qkv.device))
            kernel[len(cu_seqlens) - 1, triton.cdiv(max_seqlen, launch[side]), heads](
                qkv, cos, sin, time, cu_seqlens if visible is None else visible, cu_seqlens, grad, lse, delta,
                grad_qkv, d**-0.5, total, H=heads, D=d, VISIBLE=visible is not None, PRECISION="ieee", **launch,
            )  # fmt: skip
    return grad_qkv


@attention_backward.register_fake
def _(grad: Tensor, qkv: Tensor, *_others: Any) -> Tensor:
    return torch.empty_like(qkv, memory_format=torch.contiguous_format)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    qkv, cu_seqlens, max_seqlen, time, visible = inputs
    ctx.save_for_backward(qkv, *output, cu_seqlens, time, visible)
    ctx.max_seqlen = max_seqlen


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    qkv, out, lse, cu_seqlens, time, visible = ctx.saved_tensors
    return attention_backward(grad, qkv, out, lse, cu_seqlens, ctx.max_seqlen, time, visible), None, None, None, None


attention_forward.register_autograd(_backward, setup_context=_setup)
