"""Triton's tutorials in the emulator, against PyTorch."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("triton", reason="compiling kernels needs triton")
from ptx_emulator.device import EmulatedGPU, emulated_gpu

from tests.ptx_emulator import tutorials

pytestmark = pytest.mark.usefixtures("gpu")


@pytest.fixture(params=["sm_80", "sm_90"])
def gpu(request: pytest.FixtureRequest) -> Iterator[EmulatedGPU]:
    with emulated_gpu(request.param) as gpu:
        yield gpu
        assert gpu.reports


def close(got: Tensor, exact: Tensor, plain: Tensor | None = None) -> None:
    """Within twice PyTorch's error in the same dtype, or float32's rounding."""
    allowed = torch.tensor(2e-6) if plain is None else 2 * (plain - exact).norm() / exact.norm()
    assert (got.double() - exact).norm() / exact.norm() <= allowed.clamp_min(2e-6)


def test_vector_add() -> None:
    x, y = torch.randn(2, 1000)
    out = torch.full_like(x, float("nan"))
    tutorials.add_kernel[4,](x, y, out, 1000, BLOCK=256)
    assert torch.equal(out, x + y)


def test_fused_softmax() -> None:
    x = torch.randn(37, 300)[:, :201]
    out = torch.empty(37, 201)
    tutorials.softmax_kernel[5,](x, out, x.stride(0), out.stride(0), 37, 201, BLOCK=256)
    close(out, x.double().softmax(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    ("leaky", "turned"), [(False, False), (True, True)], ids=["plain", "leaky, b transposed"]
)
def test_matmul(gpu: EmulatedGPU, dtype: torch.dtype, leaky: bool, turned: bool) -> None:
    m, n, k = 200, 152, 104
    a = torch.randn(m, k).to(dtype)
    b = torch.randn(n, k).to(dtype).t() if turned else torch.randn(k, n).to(dtype)
    c = torch.full((m, n), float("nan"), dtype=dtype)
    blocks = -(-m // 64) * -(-n // 64)
    tutorials.matmul_kernel[blocks,](
        *(a, b, c, m, n, k, *a.stride(), *b.stride(), *c.stride()),
        **{"BM": 64, "BN": 64, "BK": 32, "GROUP": 2, "LEAKY": leaky},
        num_warps=4,
        num_stages=3,
    )
    ptx = bytes(gpu.kernels[0].asm["ptx"]).decode()
    assert ("wgmma.mma_async" if gpu.capability == 90 else "mma.sync") in ptx
    exact = a.double() @ b.double()
    # float32's products are TF32's: numbers of 10 bits
    plain = exact * (1 + 2**-11) if dtype == torch.float32 else (a @ b).double()
    if leaky:
        exact, plain = F.leaky_relu(exact), F.leaky_relu(plain)
    close(c, exact, plain)


@pytest.mark.parametrize("atomic", [False, True])
def test_layer_norm(atomic: bool) -> None:
    rows, columns, eps = 33, 300, 1e-5
    x, grad = torch.randn(2, rows, columns).half()
    gamma, beta = 1 + torch.rand(columns), torch.randn(columns)
    out, mean, rstd = torch.empty_like(x), torch.empty(rows), torch.empty(rows)
    tutorials.layer_norm_kernel[rows,](
        x, gamma, beta, out, mean, rstd, columns, eps, BLOCK=128, num_warps=4
    )
    shape = (columns,) if atomic else (rows, columns)
    grad_x, parts = torch.empty_like(x), [torch.zeros(shape), torch.zeros(shape)]
    tutorials.layer_norm_backward_kernel[rows,](
        grad, x, gamma, mean, rstd, grad_x, *parts, columns, BLOCK=512, ATOMIC=atomic
    )
    if not atomic:
        sums = [torch.empty(columns), torch.empty(columns)]
        for part, total in zip(parts, sums, strict=True):
            tutorials.column_sums_kernel[-(-columns // 64),](
                part, total, rows, columns, BM=16, BN=64
            )
        parts = sums
    inputs = [v.double().requires_grad_() for v in (x, gamma, beta)]
    exact = F.layer_norm(inputs[0], (columns,), *inputs[1:], eps)
    close(out, exact.detach(), exact.detach().half().double())
    gradients = torch.autograd.grad(exact, inputs, grad.double())
    close(grad_x, gradients[0], gradients[0].half().double())
    for part, gradient in zip(parts, gradients[1:], strict=True):
        close(part, gradient, gradient * (1 + 1e-6))


def philox(seed: int, counters: np.ndarray) -> np.ndarray:
    """The first word of Philox-4x32-10 (Salmon et al., 2011) for 32-bit counters."""
    c = [counters.astype(np.uint64), *(np.zeros(len(counters), np.uint64) for _ in range(3))]
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    key = [np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)]
    for _ in range(10):
        p, q = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(q >> shift) ^ c[1] ^ key[0], q & low, (p >> shift) ^ c[3] ^ key[1], p & low]
        key = [(key[0] + np.uint64(0x9E3779B9)) & low, (key[1] + np.uint64(0xBB67AE85)) & low]
    return c[0].astype(np.uint32)


def test_dropout() -> None:
    x, p, seed = torch.randn(1000), 0.3, 123
    out = torch.empty_like(x)
    tutorials.dropout_kernel[4,](x, out, 1000, p, seed, BLOCK=256)
    word = philox(seed, np.arange(1000)).view(np.int32)
    uniform = torch.from_numpy(np.where(word < 0, -word - 1, word) * 4.6566127342e-10)
    assert torch.equal(out, torch.where(uniform > p, x / (1 - p), 0.0))
    assert 0.65 < float((out != 0).float().mean()) < 0.75


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_causal_attention(dtype: torch.dtype) -> None:
    heads, length, size = 3, 150, 64
    q, k, v = torch.randn(3, heads, length, size).to(dtype)
    out = torch.full_like(q, float("nan"))
    tutorials.attention_kernel[3, heads](
        q, k, v, out, size**-0.5, length, D=size, BM=64, BN=32, num_warps=4, num_stages=2
    )
    attend: Callable[..., Tensor] = F.scaled_dot_product_attention
    exact = attend(q.double(), k.double(), v.double(), is_causal=True)
    close(out, exact, attend(q, k, v, is_causal=True).double())
