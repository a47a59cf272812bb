"""Faults in the kernels' Python source: masks, strides, products, initial values, loops, signs."""

from collections.abc import Callable
from functools import partial

from tests.ptx_emulator.mutations import Fault


def _faults(
    where: str, operation: str, target: str, *rows: tuple[str, str, str] | tuple[str, str, str, int]
) -> list[Fault]:
    """Rows of description, old, new and perhaps which occurrence."""
    make: Callable[..., Fault] = partial(Fault, operation=operation, target=target, where=where)
    return [
        make(what=what, old=old, new=new, nth=nth[0] if nth else 0) for what, old, new, *nth in rows
    ]


LINEAR, ROWS = "linear.triton_kernels", "runtime.triton_rows"
ATTENTION, WHOLE, ROTARY = (f"attention.triton_{name}" for name in ("kernels", "whole", "rotary"))
SWIGLU, NORM = "feed_forward.triton_kernels", "runtime.triton_layer_norm"
EMBED, LOSS = "embed_tokens.triton_kernels", "prototype_loss.triton_kernels"

SOURCE_FAULTS = [
    *_faults(
        LINEAR,
        "norm_linear",
        "sm_90",
        ("rows' mask dropped from store", "m_m[:, None] & m_e[None, :]", "m_e[None, :]"),
        ("columns' mask dropped from store", "m_m[:, None] & m_e[None, :]", "m_m[:, None]"),
        (
            "product transposed",
            "o_e[None, :] * D + o_d[:, None]",
            "o_d[:, None] * E + o_e[None, :]",
        ),
        ("first tile's bias in every tile", "tl.load(bias + o_e,", "tl.load(bias + o_e - first,"),
    ),
    *_faults(
        LINEAR,
        "norm_linear",
        "sm_80",
        ("features' mask dropped from weight", "m_e[None, :] & (o_d < D)[:, None]", "m_e[None, :]"),
        ("columns' mask dropped from weight", "m_e[None, :] & (o_d < D)", "(o_d < D)"),
        ("weight's stride off by one", "o_e[None, :] * D +", "o_e[None, :] * (D + 1) +"),
        ("last tile dropped", "range(0, E, BN)", "range(0, E - BN + 1, BN)"),
    ),
    *_faults(
        LINEAR,
        "linear_residual",
        "sm_90",
        (
            "columns' mask dropped from residual",
            "mask=m_y, other=0.0",
            "mask=m_m[:, None], other=0.0",
        ),
        ("residual subtracted", "b_y += tl.load(residual", "b_y -= tl.load(residual"),
    ),
    *_faults(
        ROWS,
        "norm_linear",
        "sm_80",
        ("variance of padded width", "tl.sum(b_x * b_x, 1) / D", "tl.sum(b_x * b_x, 1) / DP"),
        ("mean also from padding", "tl.where(m_d, b_x - (", "tl.where(True, b_x - ("),
        (
            "no case for padded width in load",
            "m_m[:, None] if D == DP else",
            "m_m[:, None] if True else",
        ),
    ),
    *_faults(
        ROWS,
        "norm_swiglu",
        "sm_90",
        (
            "no case for padded width in store",
            "m_m[:, None] if D == DP else",
            "m_m[:, None] if True else",
            1,
        ),
    ),
    *_faults(
        SWIGLU,
        "norm_swiglu",
        "sm_90",
        ("gate and value from the same weights", "o_f, D, F, DP, 0)", "o_f, D, F, DP, 1)"),
        (
            "no case for padded width in weights",
            "m_f[None, :] if D == DP else",
            "m_f[None, :] if True else",
        ),
        ("sigmoid of the wrong sign", "1.0 + tl.exp(-b)", "1.0 + tl.exp(b)"),
        ("residual added early and late", "if not EARLY:", "if EARLY:"),
        (
            "silu's derivative of the wrong sign",
            "(1.0 + b_g * (1.0 - b_sig))",
            "(1.0 - b_g * (1.0 - b_sig))",
        ),
        (
            "all programs write the same partial sums",
            "parts + i_m.to(tl.int64) * (2 * F)",
            "parts + 0 * (2 * F)",
        ),
    ),
    *_faults(
        SWIGLU,
        "norm_swiglu",
        "sm_80",
        (
            "hidden mask dropped from bias",
            "b12 + PART * F + o_f, mask=m_f, other=0.0",
            "b12 + PART * F + o_f",
        ),
        (
            "hidden mask dropped from second weight",
            "mask=(o_f < F)[:, None] & (o_d < D)[None, :]",
            "mask=(o_d < D)[None, :]",
        ),
        ("residual never added", "if not EARLY:", "if EARLY:"),
        (
            "value's gradient one column early",
            "grad_hidden + offsets + F,",
            "grad_hidden + offsets + F - 1,",
        ),
        ("hidden layer's last tile dropped", "range(0, F, BF)", "range(0, F - BF + 1, BF)"),
    ),
    *_faults(
        NORM,
        "norm_linear",
        "sm_90",
        ("last block of rows dropped", "range(BLOCKS)", "range(BLOCKS - 1)"),
        ("deviation forgotten", ") * b_rstd[:, None]", ")"),
        ("partial sums overlap", "i_m.to(tl.int64) * (2 * D)", "i_m.to(tl.int64) * D"),
    ),
    *_faults(
        NORM,
        "norm_swiglu",
        "sm_80",
        ("one row too many", "tl.arange(0, BM) < rows", "tl.arange(0, BM) <= rows"),
        (
            "gamma applied to its own gradient",
            "tl.sum(b_g * b_hat, 0)",
            "tl.sum(b_g * b_gamma * b_hat, 0)",
        ),
        ("residual's gradient forgotten", "if RESIDUAL:", "if not RESIDUAL:"),
    ),
    *_faults(
        ATTENTION,
        "attention",
        "sm_90",
        ("query not scaled", "(b_q * (D**-0.5 * LOG2E))", "b_q"),
        ("keys taken for values", "load_block(qkv, 2,", "load_block(qkv, 1,", 1),
        (
            "all heads write the same delta",
            "delta + i_h.to(tl.int64) * total + o_m, b_delta",
            "delta + o_m, b_delta",
        ),
    ),
    *_faults(
        WHOLE,
        "attention",
        "sm_90",
        ("keys' mask dropped from scores", 'float("-inf"), 0.0).to(TYPE)', "0.0, 0.0).to(TYPE)"),
        ("maximum missing from log-sum-exp", "(b_max + tl.log2(b_sum))", "tl.log2(b_sum)"),
        ("last block of queries dropped", "else eos - bos, BM)", "else eos - bos - BM, BM)"),
        ("output not divided", "b_out / b_sum[:, None]", "b_out"),
    ),
    *_faults(
        ATTENTION,
        "attention",
        "sm_80",
        ("earlier sum not rescaled", "b_out * b_shrink[:, None] +", "b_out +"),
        ("last tile of keys dropped", "range(bok, eok, BN)", "range(bok, eok - BN + 1, BN)"),
        (
            "sequences of one token passed over",
            "if i_m * BM >= eos - bos:",
            "if i_m * BM >= eos - bos - 1:",
        ),
        ("last query's mask off by one", "m_m = o_m < eos", "m_m = o_m <= eos"),
        ("gradient of scores without delta", "b_p * (b_w - b_delta[:, None])", "b_p * b_w"),
        (
            "gradient of values from scores, not weights",
            "tl.dot(b_p.to(TYPE), b_g,",
            "tl.dot(b_s.to(TYPE), b_g,",
        ),
    ),
    *_faults(
        ATTENTION,
        "attention, some keys",
        "sm_90",
        ("list of keys not read", "return tl.load(keys + o_k, mask=m_k, other=0)", "return o_k"),
        ("keys' positions unmasked", "keys + o_k, mask=m_k, other=0", "keys + o_k"),
    ),
    *_faults(
        ROTARY,
        "attention",
        "sm_80",
        ("rotation of the wrong sign", "b_lo * b_cos - b_hi", "b_lo * b_cos + b_hi"),
        (
            "rotation's partner is the neighbour",
            "tl.load(pointers + D // 2",
            "tl.load(pointers + 1",
        ),
        ("gradient rotated forth, not back", "b_lo * b_cos + b_hi", "b_lo * b_cos - b_hi"),
        (
            "time before the first not clamped",
            "tl.maximum(tl.load(time + o_row, mask=m_row, other=0), 0)",
            "tl.load(time + o_row, mask=m_row, other=0)",
        ),
        ("head's stride off by one", "i_head * D  # [B]", "i_head * (D + 1)  # [B]"),
    ),
    *_faults(
        EMBED,
        "embed_tokens",
        "sm_90",
        (
            "hidden patches count for the weight",
            "m_seen = m_patch & (m_hidden == 0)",
            "m_seen = m_patch",
            1,
        ),
        ("registers shift the joints", "tl.maximum(o_j - R, 0)", "o_j"),
        ("one token too many in a group", "o_r < clips * length", "o_r <= clips * length"),
        ("partial sums overlap", "i_p.to(tl.int64) * F +", "i_p.to(tl.int64) * (F - 1) +"),
    ),
    *_faults(
        EMBED,
        "embed_tokens",
        "sm_80",
        ("frame and channel swapped", "o_k % P) * s_t", "o_k // P) * s_t"),
        (
            "bias and mask token swapped",
            "tl.where(m_hidden, K + 1, K)",
            "tl.where(m_hidden, K, K + 1)",
        ),
        (
            "sum starts at one",
            "b_parts = tl.zeros([BF, DP], ACC)",
            "b_parts = tl.full([BF, DP], 1.0, ACC)",
        ),
    ),
    *_faults(
        EMBED,
        "embed_tokens, far clips",
        "sm_90",
        ("clip's offset in int32", "return o_c * s_n +", "return (o_c * s_n).to(tl.int32) +"),
    ),
    *_faults(
        LOSS,
        "prototype_loss",
        "sm_90",
        ("bias not in powers of two", "other=0.0) * LOG2E)[None", "other=0.0))[None"),
        (
            "log-sum-exp left in powers of two",
            "(b_max + tl.log2(b_sum)) / LOG2E",
            "(b_max + tl.log2(b_sum))",
        ),
        (
            "a split runs past the columns",
            "tl.minimum((i_p + 1) * span, columns)",
            "(i_p + 1) * span",
        ),
        ("splits overlap", "out + i_p.to(tl.int64) * rows * D", "out + i_p.to(tl.int64) * rows"),
        ("columns' mask dropped from scores", 'tl.where(m_n[None, :], b_s, float("-inf"))', "b_s"),
    ),
    *_faults(
        LOSS,
        "prototype_loss",
        "sm_80",
        (
            "segment's last row dropped",
            "tl.load(bounds + i_n + 1)",
            "tl.load(bounds + i_n + 1) - 1",
        ),
        (
            "student's row not divided by targets",
            "tl.load(order + j) // divisor",
            "tl.load(order + j)",
        ),
        ("earlier sum not rescaled", "b_out = b_out * b_shrink[:, None]", "b_out = b_out"),
        ("temperature forgotten", "out_dtype=ACC) * scale", "out_dtype=ACC)"),
    ),
    Fault(
        "keys' mask dropped from weights in queries' gradient",
        "attention",
        "sm_80",
        ATTENTION,
        "b_p = tl.where(m_n[None, :], b_p, 0.0)",
        "b_p = b_p",
        harmless="masked keys are rows of zeros, by which the weights are multiplied",
    ),
    Fault(
        "programs past a sequence's end go on",
        "attention",
        "sm_80",
        ATTENTION,
        "if i_m * BM >= eos - bos:",
        "if i_m * BM >= eos - bos + BM:",
        harmless="all they load and store is masked",
    ),
]
