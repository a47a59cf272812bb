"""The kernels that Triton's tutorials teach, written anew: none that the emulator was made for."""

import triton
import triton.language as tl


@triton.jit
def add_kernel(x, y, out, n, BLOCK: tl.constexpr):
    """out = x + y, (n,)."""
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < n
    total = tl.load(x + offsets, mask=inside) + tl.load(y + offsets, mask=inside)
    tl.store(out + offsets, total, mask=inside)


@triton.jit
def softmax_kernel(x, out, x_stride, out_stride, rows, columns, BLOCK: tl.constexpr):
    """Softmax over each row; a program takes every so-manieth row."""
    o_c = tl.arange(0, BLOCK)
    for row in tl.range(tl.program_id(0), rows, tl.num_programs(0), num_stages=3):
        b_x = tl.load(x + row * x_stride + o_c, mask=o_c < columns, other=float("-inf"))
        b_e = tl.exp(b_x - tl.max(b_x, 0))
        tl.store(out + row * out_stride + o_c, b_e / tl.sum(b_e, 0), mask=o_c < columns)


@triton.jit
def leaky_relu(b_x):
    return tl.where(b_x >= 0, b_x, 0.01 * b_x)


@triton.jit
def matmul_kernel(
    a,
    b,
    c,
    m,
    n,
    k,
    a_m,
    a_k,
    b_k,
    b_n,
    c_m,
    c_n,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
    LEAKY: tl.constexpr,
):
    """c (m, n) = a (m, k) b (k, n), by groups of GROUP blocks of rows, each from left to right."""
    i, down, right = tl.program_id(0), tl.cdiv(m, BM), tl.cdiv(n, BN)
    group = i // (GROUP * right)
    high = min(down - group * GROUP, GROUP)
    i_m, i_n = group * GROUP + i % (GROUP * right) % high, i % (GROUP * right) // high
    o_m, o_n = (i_m * BM + tl.arange(0, BM)) % m, (i_n * BN + tl.arange(0, BN)) % n
    o_k = tl.arange(0, BK)
    a += o_m[:, None] * a_m + o_k[None, :] * a_k
    b += o_k[:, None] * b_k + o_n[None, :] * b_n
    total = tl.zeros([BM, BN], tl.float32)
    for first in range(0, k, BK):
        left = tl.load(a, mask=o_k[None, :] < k - first, other=0.0)
        total = tl.dot(left, tl.load(b, mask=o_k[:, None] < k - first, other=0.0), total)
        a += BK * a_k
        b += BK * b_k
    if LEAKY:
        total = leaky_relu(total)
    o_m, o_n = i_m * BM + tl.arange(0, BM), i_n * BN + tl.arange(0, BN)
    places = c + o_m[:, None] * c_m + o_n[None, :] * c_n
    tl.store(places, total.to(c.dtype.element_ty), mask=(o_m[:, None] < m) & (o_n[None, :] < n))


@triton.jit
def layer_norm_kernel(x, gamma, beta, out, mean, rstd, columns, eps, BLOCK: tl.constexpr):
    """LayerNorm of one row a program, which goes through it in blocks, three times."""
    row = tl.program_id(0)
    x += row * columns
    out += row * columns
    total = tl.zeros([BLOCK], tl.float32)
    for first in range(0, columns, BLOCK):
        o_c = first + tl.arange(0, BLOCK)
        total += tl.load(x + o_c, mask=o_c < columns, other=0.0).to(tl.float32)
    middle = tl.sum(total, 0) / columns
    total = tl.zeros([BLOCK], tl.float32)
    for first in range(0, columns, BLOCK):
        o_c = first + tl.arange(0, BLOCK)
        b_x = tl.load(x + o_c, mask=o_c < columns, other=0.0).to(tl.float32)
        b_x = tl.where(o_c < columns, b_x - middle, 0.0)
        total += b_x * b_x
    scale = 1 / tl.sqrt(tl.sum(total, 0) / columns + eps)
    tl.store(mean + row, middle)
    tl.store(rstd + row, scale)
    for first in range(0, columns, BLOCK):
        o_c = first + tl.arange(0, BLOCK)
        inside = o_c < columns
        b_x = (tl.load(x + o_c, mask=inside, other=0.0).to(tl.float32) - middle) * scale
        b_y = b_x * tl.load(gamma + o_c, mask=inside) + tl.load(beta + o_c, mask=inside)
        tl.store(out + o_c, b_y, mask=inside)


@triton.jit
def layer_norm_backward_kernel(
    grad,
    x,
    gamma,
    mean,
    rstd,
    grad_x,
    grad_gamma,
    grad_beta,
    columns,
    BLOCK: tl.constexpr,
    ATOMIC: tl.constexpr,
):
    """One row's gradient, and its share of gamma's and beta's: added up by atomic operations, or
    (rows, columns) for `column_sums_kernel`.
    """
    row, o_c = tl.program_id(0), tl.arange(0, BLOCK)
    inside = o_c < columns
    b_x = tl.load(x + row * columns + o_c, mask=inside, other=0.0).to(tl.float32)
    b_g = tl.load(grad + row * columns + o_c, mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(rstd + row)
    b_hat = tl.where(inside, (b_x - tl.load(mean + row)) * scale, 0.0)
    b_w = b_g * tl.load(gamma + o_c, mask=inside, other=0.0)
    along, middle = tl.sum(b_hat * b_w, 0) / columns, tl.sum(b_w, 0) / columns
    b_dx = (b_w - b_hat * along - middle) * scale
    tl.store(grad_x + row * columns + o_c, b_dx, mask=inside)
    if ATOMIC:
        tl.atomic_add(grad_gamma + o_c, b_g * b_hat, mask=inside)
        tl.atomic_add(grad_beta + o_c, b_g, mask=inside)
    else:
        tl.store(grad_gamma + row * columns + o_c, b_g * b_hat, mask=inside)
        tl.store(grad_beta + row * columns + o_c, b_g, mask=inside)


@triton.jit
def column_sums_kernel(parts, out, rows, columns, BM: tl.constexpr, BN: tl.constexpr):
    """out (columns,) = the sum of parts (rows, columns) over its rows."""
    o_c = tl.program_id(0) * BN + tl.arange(0, BN)
    total = tl.zeros([BM, BN], tl.float32)
    for first in range(0, rows, BM):
        o_r = first + tl.arange(0, BM)
        inside = (o_r[:, None] < rows) & (o_c[None, :] < columns)
        total += tl.load(parts + o_r[:, None] * columns + o_c[None, :], mask=inside, other=0.0)
    tl.store(out + o_c, tl.sum(total, 0), mask=o_c < columns)


@triton.jit
def dropout_kernel(x, out, n, p, seed, BLOCK: tl.constexpr):
    """x / (1 - p) where the random number of an element is above p, else 0."""
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < n
    b_x = tl.load(x + offsets, mask=inside)
    tl.store(out + offsets, tl.where(tl.rand(seed, offsets) > p, b_x / (1 - p), 0.0), mask=inside)


@triton.jit
def attention_kernel(
    q, k, v, out, scale, length, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr
):
    """Causal flash attention of q, k, v (heads, length, D): whole blocks of keys before the
    diagonal, then the masked ones on it.
    """
    i_m, head = tl.program_id(0), tl.program_id(1).to(tl.int64) * length * D
    o_m, o_d = i_m * BM + tl.arange(0, BM), tl.arange(0, D)
    rows = o_m[:, None] * D + o_d[None, :]
    b_q = tl.load(q + head + rows, mask=o_m[:, None] < length, other=0.0)
    highest, total = tl.full([BM], float("-inf"), tl.float32), tl.zeros([BM], tl.float32)
    b_out = tl.zeros([BM, D], tl.float32)
    for diagonal in tl.static_range(2):
        start = i_m * BM if diagonal else 0
        for first in range(start, min(start + BM, length) if diagonal else i_m * BM, BN):
            o_n = first + tl.arange(0, BN)
            inside = o_n < length
            b_k = tl.load(
                k + head + o_n[None, :] * D + o_d[:, None], mask=inside[None, :], other=0.0
            )
            b_s = tl.dot(b_q, b_k) * (scale * 1.44269504)
            if diagonal:
                b_s = tl.where((o_m[:, None] >= o_n[None, :]) & inside[None, :], b_s, -1.0e6)
            higher = tl.maximum(highest, tl.max(b_s, 1))
            b_p = tl.exp2(b_s - higher[:, None])
            shrink = tl.exp2(highest - higher)
            total = total * shrink + tl.sum(b_p, 1)
            b_v = tl.load(
                v + head + o_n[:, None] * D + o_d[None, :], mask=inside[:, None], other=0.0
            )
            b_out = tl.dot(b_p.to(b_v.dtype), b_v, b_out * shrink[:, None])
            highest = higher
    b_out = (b_out / total[:, None]).to(out.dtype.element_ty)
    tl.store(out + head + rows, b_out, mask=o_m[:, None] < length)
