"""prototype_loss as Triton kernels: every pass is flash attention between features and prototypes.

attend: Σ_k softmax_k(x_i · y_k / τ + bias_k) v_k and the log of the softmax's denominator; log_sum_exp: the latter
alone. With the roles of rows and columns swapped and a normaliser as bias they give Sinkhorn's half-iterations, the
expected prototypes and the gradients, so the N×K logits are never in memory. A few rows are spread over more programs
by splitting the columns; the splits' shares are put together by their log-sum-exp, in a fixed order.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
import triton
import triton.language as tl
from torch import Tensor

from slim_kernels.launch import Shipped, launch
from slim_kernels.registration import cast_under_autocast, count_flops, kernel_op
from slim_kernels.rows_triton import PADDED, load_rows, padded, store_rows

# Programs that fill a large GPU; with fewer blocks of rows the columns are split, at most so often.
ENOUGH_PROGRAMS, MOST_SPLITS = 264, 8
LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def load_scores(
    b_x, y, bias, first, m_n, scale, D: tl.constexpr, DP: tl.constexpr, BN: tl.constexpr, ACC, BIAS,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """(x · y / τ + bias) in powers of two, of BN columns from `first` on, -inf where masked: [BM, BN]."""
    o_d, o_n = tl.arange(0, DP), tl.arange(0, BN)
    place = tl.cast(first, tl.int64) * D + (o_n[None, :] * D + o_d[:, None])
    b_y = tl.load(y + place, mask=m_n[None, :] & (o_d < D)[:, None], other=0.0)  # [DP, BN]
    b_s = tl.dot(b_x, b_y, input_precision=PRECISION, out_dtype=ACC) * scale
    if BIAS:
        b_s += (tl.load(bias + first + o_n, mask=m_n, other=0.0) * LOG2E)[None, :]
    return tl.where(m_n[None, :], b_s, float("-inf"))


@triton.jit
def raise_maximum(b_max, b_s):
    """The new maximum of each row, and the one to subtract: never -inf, which would give -inf - -inf."""
    b_new = tl.maximum(b_max, tl.max(b_s, 1))
    return b_new, tl.where(b_new == float("-inf"), 0.0, b_new)


@triton.jit(do_not_specialize=["rows", "columns", "span", "scale"])
def log_sum_exp_kernel(
    x, y, bias, lse, rows, columns, span, scale,
    D: tl.constexpr, DP: tl.constexpr, BIAS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """lse (splits, rows) = log Σ exp(x · y / τ + bias) over this split's `span` columns."""
    i_m, i_p = tl.program_id(0), tl.program_id(1)
    ACC: tl.constexpr = lse.dtype.element_ty
    o_m = i_m * BM + tl.arange(0, BM)
    m_m = o_m < rows
    b_x = load_rows(x, i_m * BM, m_m, D, DP, BM)
    b_max, b_sum = tl.full([BM], float("-inf"), ACC), tl.zeros([BM], ACC)
    end = tl.minimum((i_p + 1) * span, columns)
    for first in range(i_p * span, end, BN):
        m_n = first + tl.arange(0, BN) < end
        b_s = load_scores(b_x, y, bias, first, m_n, scale, D, DP, BN, ACC, BIAS, PRECISION)
        b_new, b_off = raise_maximum(b_max, b_s)
        b_sum = b_sum * tl.exp2(b_max - b_off) + tl.sum(tl.exp2(b_s - b_off[:, None]), 1)
        b_max = b_new
    tl.store(lse + i_p.to(tl.int64) * rows + o_m, (b_max + tl.log2(b_sum)) / LOG2E, mask=m_m)


@triton.jit(do_not_specialize=["rows", "columns", "span", "scale"])
def attend_kernel(
    x, y, v, bias, out, lse, rows, columns, span, scale,
    D: tl.constexpr, DP: tl.constexpr, BIAS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out (splits, rows, D), the softmax's mean of v over this split's columns, and lse (splits, rows)."""
    i_m, i_p = tl.program_id(0), tl.program_id(1)
    ACC: tl.constexpr = lse.dtype.element_ty
    o_m = i_m * BM + tl.arange(0, BM)
    m_m = o_m < rows
    b_x = load_rows(x, i_m * BM, m_m, D, DP, BM)
    b_max, b_sum = tl.full([BM], float("-inf"), ACC), tl.zeros([BM], ACC)
    b_out = tl.zeros([BM, DP], ACC)
    end = tl.minimum((i_p + 1) * span, columns)
    for first in range(i_p * span, end, BN):
        m_n = first + tl.arange(0, BN) < end
        b_s = load_scores(b_x, y, bias, first, m_n, scale, D, DP, BN, ACC, BIAS, PRECISION)
        b_new, b_off = raise_maximum(b_max, b_s)
        b_shrink, b_p = tl.exp2(b_max - b_off), tl.exp2(b_s - b_off[:, None])
        b_sum = b_sum * b_shrink + tl.sum(b_p, 1)
        b_v = load_rows(v, first, m_n, D, DP, BN)  # [BN, DP]
        b_out = b_out * b_shrink[:, None]
        b_out += tl.dot(b_p.to(b_v.dtype), b_v, input_precision=PRECISION, out_dtype=ACC)
        b_max = b_new
    b_out = b_out / tl.where(b_sum > 0, b_sum, 1.0)[:, None]
    store_rows(out + i_p.to(tl.int64) * rows * D, b_out, i_m * BM, m_m, D, DP, BM)
    tl.store(lse + i_p.to(tl.int64) * rows + o_m, (b_max + tl.log2(b_sum)) / LOG2E, mask=m_m)


@triton.jit(do_not_specialize=["divisor"])
def segment_sum_kernel(values, order, bounds, divisor, out, D: tl.constexpr, DP: tl.constexpr):
    """out[n] = Σ values[order[j] // divisor] over j from bounds[n] to bounds[n + 1], one program a row."""
    i_n = tl.program_id(0)
    o_d = tl.arange(0, DP)
    b_sum = tl.zeros([DP], out.dtype.element_ty)
    for j in range(tl.load(bounds + i_n), tl.load(bounds + i_n + 1)):
        row = tl.load(order + j) // divisor
        b_sum += tl.load(values + row * D + o_d, mask=o_d < D, other=0.0)
    tl.store(out + i_n.to(tl.int64) * D + o_d, b_sum, mask=o_d < D)


def _variants(width: int) -> Iterator[dict[str, Any]]:
    for bias in (True, False):
        yield {"D": width, "DP": width, "BIAS": bias, "PRECISION": "ieee"}


_TYPES = {"x": "T", "y": "T", "v": "T", "bias": "fp32", "out": "fp32", "lse": "fp32"}
_SCALARS = {"rows": "i32", "columns": "i32", "span": "i32", "scale": "fp32"}
SHIPPED = {
    "attend": Shipped(attend_kernel, _TYPES, (PADDED,), _variants, _SCALARS, ("T",)),
    "log_sum_exp": Shipped(log_sum_exp_kernel, _TYPES, (PADDED,), _variants, _SCALARS, ("T",)),
    "segment_sum": Shipped(
        segment_sum_kernel,
        {"values": "fp32", "order": "i64", "bounds": "i64", "out": "fp32"},
        (PADDED,),
        lambda width: iter([{"D": width, "DP": width}]),
        {"divisor": "i32"},
        ("T",),
        matrix=False,
    ),
}


def _operand(x: Tensor) -> Tensor:
    """As the kernels multiply it: float16 on a GPU, whose 11 bits suffice for unit rows (bfloat16's 8 do not)."""
    return x.to(torch.float16).contiguous() if x.device.type == "cuda" else x.contiguous()


def _plan(kernel: str, x: Tensor, columns: int) -> tuple[dict[str, int], int, int]:
    """Launch, splits of the columns, and columns of a split."""
    tile = launch(kernel, x.device, x.shape[1])
    blocks = triton.cdiv(len(x), tile["BM"])
    wanted = max(1, min(MOST_SPLITS, ENOUGH_PROGRAMS // max(blocks, 1), triton.cdiv(columns, tile["BN"])))
    span = triton.cdiv(triton.cdiv(columns, wanted), tile["BN"]) * tile["BN"]
    return tile, triton.cdiv(columns, span), span


def log_sum_exp(x: Tensor, y: Tensor, bias: Tensor | None, temperature: float, dtype: torch.dtype) -> Tensor:
    """log Σ_k exp(x_i · y_k / temperature + bias_k), (rows,), of operands x (rows, D) and y (columns, D)."""
    (rows, width), columns = x.shape, len(y)
    if not rows or not columns:
        return torch.full((rows,), float("-inf"), dtype=dtype, device=x.device)
    tile, splits, span = _plan("log_sum_exp", x, columns)
    parts = torch.empty(splits, rows, dtype=dtype, device=x.device)
    log_sum_exp_kernel[triton.cdiv(rows, tile["BM"]), splits](
        x, y, x if bias is None else bias, parts, rows, columns, span, LOG2E.value / temperature,
        D=width, DP=padded(width), BIAS=bias is not None, PRECISION="ieee", **tile,
    )  # fmt: skip
    return parts[0] if splits == 1 else parts.logsumexp(0)


def attend(
    x: Tensor, y: Tensor, v: Tensor, bias: Tensor | None, temperature: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Σ_k softmax_k(x_i · y_k / temperature + bias_k) v_k, (rows, D), and its log_sum_exp (rows,)."""
    (rows, width), columns = x.shape, len(y)
    if not rows or not columns:
        return x.new_zeros(rows, width, dtype=dtype), log_sum_exp(x, y, bias, temperature, dtype)
    tile, splits, span = _plan("attend", x, columns)
    parts = torch.empty(splits, rows, dtype=dtype, device=x.device)
    out = torch.empty(splits, rows, width, dtype=dtype, device=x.device)
    attend_kernel[triton.cdiv(rows, tile["BM"]), splits](
        x, y, v, x if bias is None else bias, out, parts, rows, columns, span, LOG2E.value / temperature,
        D=width, DP=padded(width), BIAS=bias is not None, PRECISION="ieee", **tile,
    )  # fmt: skip
    if splits == 1:
        return out[0], parts[0]
    lse = parts.logsumexp(0)
    share = torch.where(lse == float("-inf"), 0.0, (parts - lse).exp())  # (splits, rows)
    return (out * share[..., None]).sum(0), lse


def _potentials(
    x: Tensor, d: Tensor, start: Tensor | None, count: Tensor, temperature: float, iterations: int,
    group: dist.ProcessGroup | None,
) -> Tensor:  # fmt: skip
    """a (K,): Sinkhorn-Knopp's column potentials; start (N,): 0, or -inf for rows that don't count."""
    b = start
    for left in reversed(range(iterations)):
        a = log_sum_exp(d, x, b, temperature, count.dtype)
        if group is not None:
            top = a.clone()
            dist.all_reduce(top, dist.ReduceOp.MAX, group=group)
            top = torch.where(top == float("-inf"), 0.0, top)
            total = (a - top).exp()
            dist.all_reduce(total, group=group)
            a = top + total.log()
        a = torch.where(count > 0, -a - torch.full_like(count, len(d)).log(), 0.0)
        if left:
            b = -count.log() - log_sum_exp(x, d, a, temperature, count.dtype)
            b = b if start is None else b + start
    return a


def _pull(share: Tensor, target: Tensor | None, rows: int) -> Tensor:
    """(rows, D): the sum of share (S, D) over the student rows that look at each teacher row; no atomics."""
    if target is None:
        return share
    out = share.new_empty(rows, share.shape[1])
    flat, order = target.flatten().sort(stable=True)
    bounds = torch.searchsorted(flat, torch.arange(rows + 1, device=flat.device))
    if rows:
        segment_sum_kernel[rows,](
            share.contiguous(), order, bounds, target.shape[1], out, D=share.shape[1], DP=padded(share.shape[1]),
            **launch("segment_sum", share.device, share.shape[1]),
        )  # fmt: skip
    return out


def _scaled(values: Tensor) -> tuple[Tensor, Tensor]:
    """values as an operand, scaled so that the largest is 1 (float16 would lose small ones), and the scale."""
    scale = values.abs().amax().clamp_min(torch.finfo(values.dtype).tiny) if values.numel() else values.new_ones(())
    return _operand(values / scale), scale


@kernel_op("slim_kernels::prototype_loss")
def prototype_loss(
    student: Tensor, student_prototypes: Tensor, teacher: Tensor, teacher_prototypes: Tensor, target: Tensor | None,
    weight: Tensor, valid: Tensor | None, student_temp: float, teacher_temp: float, iterations: int, group: str | None,
    need_student: bool, need_prototypes: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The loss and the gradients of student and student_prototypes (empty where not needed), in float32 at least."""
    dtype = torch.promote_types(student.dtype, torch.float32)
    e, c, x, d = (_operand(v.to(dtype)) for v in (student, student_prototypes, teacher, teacher_prototypes))
    process_group = None if group is None else dist.distributed_c10d._resolve_process_group(group)  # type: ignore[attr-defined, arg-type]
    count = torch.full((), len(x), dtype=dtype, device=x.device) if valid is None else valid.sum().to(dtype)
    start = (
        None if valid is None else torch.zeros(len(x), dtype=dtype, device=x.device).masked_fill_(~valid, -torch.inf)
    )
    if process_group is not None:
        dist.all_reduce(count, group=process_group)
    a = _potentials(x, d, start, count, teacher_temp, iterations, process_group)
    y, teacher_lse = attend(x, d, c, a, teacher_temp, dtype)
    expected, student_lse = attend(e, c, c, None, student_temp, dtype)
    y_student = y if target is None else y[target].mean(1)
    w = weight.to(dtype)
    wide = student.to(dtype)
    loss = torch.dot(w, student_lse - (wide * y_student).sum(1) / student_temp)
    student_grad, prototype_grad = wide.new_empty(0), wide.new_empty(0)
    if need_student:
        student_grad = (w / student_temp)[:, None] * (expected - y_student)
    if need_prototypes:
        share = wide * (w / student_temp)[:, None]
        values, scale = _scaled(share)
        mean, lse = attend(c, e, values, -student_lse, student_temp, dtype)
        push = mean * (lse.exp() * scale)[:, None]
        values, scale = _scaled(_pull(share if target is None else share / target.shape[1], target, len(x)))
        mean, lse = attend(d, x, values, -teacher_lse if start is None else start - teacher_lse, teacher_temp, dtype)
        prototype_grad = push - mean * ((lse + a).exp() * scale)[:, None]
    return loss, student_grad, prototype_grad


@prototype_loss.register_fake
def _(student: Tensor, student_prototypes: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    need_student, need_prototypes = others[-2:]
    dtype = torch.promote_types(student.dtype, torch.float32)
    return (
        student.new_empty((), dtype=dtype),
        student.new_empty(student.shape if need_student else (0,), dtype=dtype),
        student.new_empty(student_prototypes.shape if need_prototypes else (0,), dtype=dtype),
    )


@kernel_op("slim_kernels::prototype_loss_backward")
def prototype_loss_backward(grad: Tensor, gradient: Tensor, dtype: torch.dtype) -> Tensor:
    """A gradient that the forward found, times that of the loss, in the argument's dtype (a scaled loss' gradient need
    not fit it).
    """
    return (gradient * grad).to(dtype)


@prototype_loss_backward.register_fake
def _(grad: Tensor, gradient: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(gradient, dtype=dtype)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*output[1:])
    ctx.needed, ctx.dtypes = inputs[-2:], [x.dtype for x in inputs[:2]]
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad: Tensor | None, *_others: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 13
    student, prototypes = (
        prototype_loss_backward(grad, gradient, dtype) if needed else None
        for gradient, needed, dtype in zip(ctx.saved_tensors, ctx.needed, ctx.dtypes, strict=True)
    )
    return (student, prototypes, *[None] * 11)


def _flops(
    student: Tensor, student_prototypes: Tensor, teacher: Tensor, teacher_prototypes: Tensor, target: Tensor | None,
    weight: Tensor, valid: Tensor | None, student_temp: float, teacher_temp: float, iterations: int, group: str | None,
    need_student: bool, need_prototypes: bool,
) -> int:  # fmt: skip
    """Products: two Sinkhorn passes an iteration (the last one joined to the targets' two), two of the student, and
    two of each for the prototypes' gradient.
    """
    gradient = 2 if need_prototypes else 0
    passes = len(teacher) * (2 * iterations + 1 + gradient) + len(student) * (2 + gradient)
    return 2 * student_prototypes.numel() * passes


prototype_loss.register_autograd(_gradients, setup_context=_setup)
cast_under_autocast(prototype_loss)
count_flops(prototype_loss, _flops)
count_flops(prototype_loss_backward, lambda *_: 0)
