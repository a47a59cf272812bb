"""Packed attention as Triton kernels: rotation in the loads of queries and keys, softmax over
blocks of keys.

One program handles a block of queries (for the gradients of keys and values, a block of keys) of
one head of one sequence. Nothing is summed by atomics, so every run gives the same bits. The host
reads no tensor: lengths reach the kernels as cu_seqlens, and programs past a sequence's end
return at once.

Names: i_ program index, o_ offsets, m_ mask, b_ block in registers; bos, eos a sequence's bounds;
BM, BN tile sizes.
"""

from collections.abc import Iterator
from typing import Any

import triton
import triton.language as tl

from slim_kernels.attention.triton_rotary import (
    load_block,
    load_rotated,
    load_rotations,
    store_block,
    store_rotated_back,
)
from slim_kernels.runtime.launch import KernelSpec

HEADS = (16, 32, 64)
"""Head sizes that have kernels."""
LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def load_keys(keys, o_k, m_k, VISIBLE: tl.constexpr):
    """The packed tokens at some positions of the list of keys."""
    if VISIBLE:
        return tl.load(keys + o_k, mask=m_k, other=0)
    return o_k


@triton.jit
def load_queries(qkv, b_cos, b_sin, i_head, o_m, m_m, H: tl.constexpr, D: tl.constexpr):
    """Queries [B, D], rotated and scaled so that exp2 of their products with keys is the softmax's
    exponential.
    """
    b_q = load_rotated(qkv, b_cos, b_sin, 0, i_head, o_m, m_m, H, D)
    return (b_q * (D**-0.5 * LOG2E)).to(qkv.dtype.element_ty)


@triton.jit(do_not_specialize=["total", "first"])
def attention_forward_kernel(
    qkv,
    cos,
    sin,
    time,
    keys,
    cu_keys,
    cu_seqlens,
    out,
    lse,
    total,
    first,
    H: tl.constexpr,
    D: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    VISIBLE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """out = softmax(q kᵀ · scale) v and lse (H, total), the log of the softmax's denominator."""
    i_s, i_m, i_h = first + tl.program_id(0), tl.program_id(1), tl.program_id(2)
    bos, eos = tl.load(cu_seqlens + i_s), tl.load(cu_seqlens + i_s + 1)
    if i_m * BM >= eos - bos:
        return
    o_m = bos + i_m * BM + tl.arange(0, BM)
    m_m = o_m < eos
    ACC: tl.constexpr = cos.dtype.element_ty
    TYPE: tl.constexpr = qkv.dtype.element_ty
    b_cos, b_sin = load_rotations(cos, sin, time, o_m, m_m, D)
    b_q = load_queries(qkv, b_cos, b_sin, i_h, o_m, m_m, H, D)  # [BM, D]
    b_max = tl.full([BM], float("-inf"), ACC)
    b_sum = tl.zeros([BM], ACC)
    b_out = tl.zeros([BM, D], ACC)
    bok, eok = tl.load(cu_keys + i_s), tl.load(cu_keys + i_s + 1)
    for begin in range(bok, eok, BN):
        o_k = begin + tl.arange(0, BN)
        m_n = o_k < eok
        o_n = load_keys(keys, o_k, m_n, VISIBLE)
        k_cos, k_sin = load_rotations(cos, sin, time, o_n, m_n, D)
        b_k = load_rotated(qkv, k_cos, k_sin, 1, i_h, o_n, m_n, H, D).to(TYPE)  # [BN, D]
        b_v = load_block(qkv, 2, i_h, o_n, m_n, 3, H, D)  # [BN, D]
        b_s = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION, out_dtype=ACC)  # [BM, BN]
        b_s = tl.where(m_n[None, :], b_s, float("-inf"))
        b_new = tl.maximum(b_max, tl.max(b_s, 1))
        # nothing seen yet: keep -inf - -inf out
        b_old = tl.where(b_new == float("-inf"), 0.0, b_new)
        b_p = tl.exp2(b_s - b_old[:, None])
        b_shrink = tl.exp2(b_max - b_old)
        b_sum = b_sum * b_shrink + tl.sum(b_p, 1)
        b_out = b_out * b_shrink[:, None] + tl.dot(
            b_p.to(TYPE), b_v, input_precision=PRECISION, out_dtype=ACC
        )
        b_max = b_new
    # without a key: keep -inf - -inf and 0 / 0 out
    b_max = tl.where(b_sum == 0.0, 0.0, b_max)
    b_sum = tl.where(b_sum == 0.0, 1.0, b_sum)
    store_block(out, b_out / b_sum[:, None], 0, i_h, o_m, m_m, 1, H, D)
    b_lse = (b_max + tl.log2(b_sum)) / LOG2E
    tl.store(lse + i_h.to(tl.int64) * total + o_m, b_lse, mask=m_m)


@triton.jit(do_not_specialize=["total", "first"])
def attention_backward_queries_kernel(
    qkv,
    cos,
    sin,
    time,
    keys,
    cu_keys,
    cu_seqlens,
    grad,
    out,
    lse,
    delta,
    rotated,
    grad_qkv,
    total,
    first,
    H: tl.constexpr,
    D: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    VISIBLE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The queries' gradient, a block of queries a program, rotated back; and for the keys' kernel,
    whose every program reads all queries, delta (H, total), grad · out, and the rotated queries.
    """
    i_s, i_m, i_h = first + tl.program_id(0), tl.program_id(1), tl.program_id(2)
    bos, eos = tl.load(cu_seqlens + i_s), tl.load(cu_seqlens + i_s + 1)
    if i_m * BM >= eos - bos:
        return
    o_m = bos + i_m * BM + tl.arange(0, BM)
    m_m = o_m < eos
    ACC: tl.constexpr = cos.dtype.element_ty
    TYPE: tl.constexpr = qkv.dtype.element_ty
    b_cos, b_sin = load_rotations(cos, sin, time, o_m, m_m, D)
    b_q = load_queries(qkv, b_cos, b_sin, i_h, o_m, m_m, H, D)  # [BM, D]
    b_g = load_block(grad, 0, i_h, o_m, m_m, 1, H, D)  # [BM, D]
    b_delta = tl.sum(b_g.to(ACC) * load_block(out, 0, i_h, o_m, m_m, 1, H, D).to(ACC), 1)
    tl.store(delta + i_h.to(tl.int64) * total + o_m, b_delta, mask=m_m)
    b_g = b_g.to(TYPE)
    store_block(rotated, b_q, 0, i_h, o_m, m_m, 1, H, D)
    b_lse = tl.load(lse + i_h.to(tl.int64) * total + o_m, mask=m_m, other=0.0) * LOG2E
    b_dq = tl.zeros([BM, D], ACC)
    bok, eok = tl.load(cu_keys + i_s), tl.load(cu_keys + i_s + 1)
    for begin in range(bok, eok, BN):
        o_k = begin + tl.arange(0, BN)
        m_n = o_k < eok
        o_n = load_keys(keys, o_k, m_n, VISIBLE)
        k_cos, k_sin = load_rotations(cos, sin, time, o_n, m_n, D)
        b_k = load_rotated(qkv, k_cos, k_sin, 1, i_h, o_n, m_n, H, D).to(TYPE)  # [BN, D]
        b_v = load_block(qkv, 2, i_h, o_n, m_n, 3, H, D)  # [BN, D]
        b_s = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION, out_dtype=ACC)  # [BM, BN]
        b_p = tl.exp2(b_s - b_lse[:, None])
        b_p = tl.where(m_n[None, :], b_p, 0.0)
        b_w = tl.dot(b_g, tl.trans(b_v), input_precision=PRECISION, out_dtype=ACC)  # [BM, BN]
        b_ds = (b_p * (b_w - b_delta[:, None])).to(TYPE)
        b_dq += tl.dot(b_ds, b_k, input_precision=PRECISION, out_dtype=ACC)  # [BM, D]
    b_cos, b_sin = load_rotations(cos, sin, time, o_m, m_m, D)  # again: held, they cost registers
    store_rotated_back(grad_qkv, b_dq * D**-0.5, b_cos, b_sin, 0, i_h, o_m, m_m, H, D)


@triton.jit(do_not_specialize=["total", "first"])
def attention_backward_keys_kernel(
    qkv,
    cos,
    sin,
    time,
    keys,
    cu_keys,
    cu_seqlens,
    grad,
    lse,
    delta,
    rotated,
    grad_qkv,
    total,
    first,
    H: tl.constexpr,
    D: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    VISIBLE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The gradients of keys (rotated back) and values, a block of keys a program; scores are
    computed transposed.
    """
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
    k_cos, k_sin = load_rotations(cos, sin, time, o_n, m_n, D)
    b_k = load_rotated(qkv, k_cos, k_sin, 1, i_h, o_n, m_n, H, D).to(TYPE)  # [BN, D]
    b_v = load_block(qkv, 2, i_h, o_n, m_n, 3, H, D)  # [BN, D]
    b_dk, b_dv = tl.zeros([BN, D], ACC), tl.zeros([BN, D], ACC)
    for begin in range(bos, eos, BM):
        o_m = begin + tl.arange(0, BM)
        m_m = o_m < eos
        b_q = load_block(rotated, 0, i_h, o_m, m_m, 1, H, D)  # [BM, D]
        b_g = load_block(grad, 0, i_h, o_m, m_m, 1, H, D).to(TYPE)  # [BM, D]
        b_lse = tl.load(lse + i_h.to(tl.int64) * total + o_m, mask=m_m, other=0.0) * LOG2E
        b_delta = tl.load(delta + i_h.to(tl.int64) * total + o_m, mask=m_m, other=0.0)
        b_s = tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION, out_dtype=ACC)  # [BN, BM]
        # unmasked: padded queries have no gradient, and rows of padded keys are not stored
        b_p = tl.exp2(b_s - b_lse[None, :])
        b_dv += tl.dot(b_p.to(TYPE), b_g, input_precision=PRECISION, out_dtype=ACC)  # [BN, D]
        b_w = tl.dot(b_v, tl.trans(b_g), input_precision=PRECISION, out_dtype=ACC)  # [BN, BM]
        b_ds = (b_p * (b_w - b_delta[None, :])).to(TYPE)
        b_dk += tl.dot(b_ds, b_q, input_precision=PRECISION, out_dtype=ACC)  # [BN, D]
    b_dk = b_dk / LOG2E  # the queries' factor has it
    k_cos, k_sin = load_rotations(cos, sin, time, o_n, m_n, D)  # again: held, they cost registers
    store_rotated_back(grad_qkv, b_dk, k_cos, k_sin, 1, i_h, o_n, m_n, H, D)
    store_block(grad_qkv, b_dv, 2, i_h, o_n, m_n, 3, H, D)


def variants(longest: int, head: int) -> Iterator[dict[str, Any]]:
    for visible in (False, True):
        yield {"H": 8, "D": head, "VISIBLE": visible, "PRECISION": "ieee"}


TYPES = {
    "qkv": "T",
    "out": "T",
    "grad": "T",
    "grad_qkv": "T",
    "cos": "fp32",
    "sin": "fp32",
    "time": "i32",
    "keys": "i32",
    "cu_keys": "i32",
    "cu_seqlens": "i32",
    "lse": "fp32",
    "delta": "fp32",
    "rotated": "T",
}
_SCALARS = {"total": "i32", "first": "i32"}
_SIZES = ((1024,), HEADS)
KERNELS = {
    "attention_forward": KernelSpec(
        attention_forward_kernel, TYPES, _SIZES, variants, _SCALARS, ("T",)
    ),
    "attention_backward_queries": KernelSpec(
        attention_backward_queries_kernel, TYPES, _SIZES, variants, _SCALARS, ("T",)
    ),
    "attention_backward_keys": KernelSpec(
        attention_backward_keys_kernel, TYPES, _SIZES, variants, _SCALARS, ("T",)
    ),
}
