"""Packed attention for sequences whose keys fit one block: softmax in one shot, gradients in one
program.

One program handles one head of one sequence: it holds the keys and values, loaded and rotated
once, and walks over blocks of queries. Names as in triton_kernels.py.
"""

import triton
import triton.language as tl

from slim_kernels.attention.triton_kernels import (
    LOG2E,
    TYPES,
    load_keys,
    load_queries,
    variants,
)
from slim_kernels.attention.triton_rotary import (
    load_block,
    load_rotated,
    load_rotations,
    store_block,
    store_rotated_back,
)
from slim_kernels.runtime.launch import KernelSpec


@triton.jit(do_not_specialize=["total", "first"])
def attention_forward_whole_kernel(
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
    """What attention_forward_kernel computes, of sequences of at most BN keys."""
    i_s, i_h = first + tl.program_id(0) // H, tl.program_id(0) % H
    bos, eos = tl.load(cu_seqlens + i_s), tl.load(cu_seqlens + i_s + 1)
    bok, eok = tl.load(cu_keys + i_s), tl.load(cu_keys + i_s + 1)
    o_k = bok + tl.arange(0, BN)
    m_n = o_k < eok
    o_n = load_keys(keys, o_k, m_n, VISIBLE)
    ACC: tl.constexpr = cos.dtype.element_ty
    TYPE: tl.constexpr = qkv.dtype.element_ty
    k_cos, k_sin = load_rotations(cos, sin, time, o_n, m_n, D)
    b_k = load_rotated(qkv, k_cos, k_sin, 1, i_h, o_n, m_n, H, D).to(TYPE)  # [BN, D]
    b_v = load_block(qkv, 2, i_h, o_n, m_n, 3, H, D)  # [BN, D]
    # A product masks: one more feature, 1 in queries and -inf in keys past the end (and zeros up to
    # the least depth of a product). A select for each score would take longer than its exponential.
    m_first = (tl.arange(0, 16) == 0)[None, :]
    b_end = tl.where(m_first & ~m_n[:, None], float("-inf"), 0.0).to(TYPE)  # [BN, 16]
    b_one = tl.broadcast_to(tl.where(m_first, 1.0, 0.0), (BM, 16)).to(TYPE)
    # a sequence has no more queries than BN either: where they are one block, no loop is compiled
    for begin in range(0, BM if BM >= BN else eos - bos, BM):
        o_m = bos + begin + tl.arange(0, BM)
        m_m = o_m < eos
        b_cos, b_sin = load_rotations(cos, sin, time, o_m, m_m, D)
        b_q = load_queries(qkv, b_cos, b_sin, i_h, o_m, m_m, H, D)  # [BM, D]
        b_s = tl.dot(b_one, tl.trans(b_end), input_precision=PRECISION, out_dtype=ACC)
        b_s = tl.dot(b_q, tl.trans(b_k), b_s, input_precision=PRECISION, out_dtype=ACC)  # [BM, BN]
        b_max = tl.max(b_s, 1)
        # without a key: keep -inf - -inf and 0 / 0 out
        b_max = tl.where(b_max == float("-inf"), 0.0, b_max)
        b_p = tl.exp2(b_s - b_max[:, None])
        b_sum = tl.sum(b_p, 1)
        b_sum = tl.where(b_sum == 0.0, 1.0, b_sum)
        b_lse = (b_max + tl.log2(b_sum)) / LOG2E
        tl.store(lse + i_h.to(tl.int64) * total + o_m, b_lse, mask=m_m)
        b_out = tl.dot(b_p.to(TYPE), b_v, input_precision=PRECISION, out_dtype=ACC)  # [BM, D]
        store_block(out, b_out / b_sum[:, None], 0, i_h, o_m, m_m, 1, H, D)


@triton.jit(do_not_specialize=["total", "first"])
def attention_backward_whole_kernel(
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
    """The gradients of queries, keys and values of sequences of at most BN keys; scores are
    computed transposed.
    """
    i_s, i_h = first + tl.program_id(0) // H, tl.program_id(0) % H
    bos, eos = tl.load(cu_seqlens + i_s), tl.load(cu_seqlens + i_s + 1)
    bok, eok = tl.load(cu_keys + i_s), tl.load(cu_keys + i_s + 1)
    o_k = bok + tl.arange(0, BN)
    m_n = o_k < eok
    o_n = load_keys(keys, o_k, m_n, VISIBLE)
    ACC: tl.constexpr = cos.dtype.element_ty
    TYPE: tl.constexpr = qkv.dtype.element_ty
    k_cos, k_sin = load_rotations(cos, sin, time, o_n, m_n, D)
    b_k = load_rotated(qkv, k_cos, k_sin, 1, i_h, o_n, m_n, H, D).to(TYPE)  # [BN, D]
    b_v = load_block(qkv, 2, i_h, o_n, m_n, 3, H, D)  # [BN, D]
    b_dk, b_dv = tl.zeros([BN, D], ACC), tl.zeros([BN, D], ACC)
    # a sequence has no more queries than BN either: where they are one block, no loop is compiled
    for begin in range(0, BM if BM >= BN else eos - bos, BM):
        o_m = bos + begin + tl.arange(0, BM)
        m_m = o_m < eos
        b_cos, b_sin = load_rotations(cos, sin, time, o_m, m_m, D)
        b_q = load_queries(qkv, b_cos, b_sin, i_h, o_m, m_m, H, D)  # [BM, D]
        b_g = load_block(grad, 0, i_h, o_m, m_m, 1, H, D)  # [BM, D]
        b_delta = tl.sum(b_g.to(ACC) * load_block(out, 0, i_h, o_m, m_m, 1, H, D).to(ACC), 1)
        b_g = b_g.to(TYPE)
        b_lse = tl.load(lse + i_h.to(tl.int64) * total + o_m, mask=m_m, other=0.0) * LOG2E
        b_s = tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION, out_dtype=ACC)  # [BN, BM]
        b_p = tl.where(m_n[:, None], tl.exp2(b_s - b_lse[None, :]), 0.0)
        b_dv += tl.dot(b_p.to(TYPE), b_g, input_precision=PRECISION, out_dtype=ACC)  # [BN, D]
        b_w = tl.dot(b_v, tl.trans(b_g), input_precision=PRECISION, out_dtype=ACC)  # [BN, BM]
        b_ds = (b_p * (b_w - b_delta[None, :])).to(TYPE)
        b_dk += tl.dot(b_ds, b_q, input_precision=PRECISION, out_dtype=ACC)  # [BN, D]
        b_dq = tl.dot(tl.trans(b_k), b_ds, input_precision=PRECISION, out_dtype=ACC)  # [D, BM]
        b_dq = tl.trans(b_dq) * D**-0.5
        store_rotated_back(grad_qkv, b_dq, b_cos, b_sin, 0, i_h, o_m, m_m, H, D)
    b_dk = b_dk / LOG2E  # the queries' factor has it
    k_cos, k_sin = load_rotations(cos, sin, time, o_n, m_n, D)  # again: held, they cost registers
    store_rotated_back(grad_qkv, b_dk, k_cos, k_sin, 1, i_h, o_n, m_n, H, D)
    store_block(grad_qkv, b_dv, 2, i_h, o_n, m_n, 3, H, D)


HEADS = (16, 32)  # wider ones spill
_SCALARS = {"total": "i32", "first": "i32"}
KERNELS = {
    "attention_forward_whole": KernelSpec(
        attention_forward_whole_kernel,
        TYPES,
        ((32, 64, 128, 256), HEADS),
        variants,
        _SCALARS,
        ("T",),
    ),
    "attention_backward_whole": KernelSpec(
        attention_backward_whole_kernel, TYPES, ((32, 64), HEADS), variants, _SCALARS, ("T",)
    ),
}
