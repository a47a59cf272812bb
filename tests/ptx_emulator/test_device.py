"""The emulated device beside Triton's interpreter in one process."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="compiling kernels needs triton")
from ptx_emulator.device import emulated_gpu

from tests.ptx_emulator import tutorials


def product() -> Tensor:
    a, b = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0)).half()
    c = torch.full((64, 64), float("nan"), dtype=torch.float16)
    # uses tl.cdiv, one of the functions for which the interpreter changes triton.language.core
    tutorials.matmul_kernel[1,](
        *(a, b, c, 64, 64, 64, *a.stride(), *b.stride(), *c.stride()),
        **{"BM": 64, "BN": 64, "BK": 32, "GROUP": 2, "LEAKY": False},
        num_warps=4,
        num_stages=3,
    )
    return c


def test_interpreted_kernels_may_run_before_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # a kernel found there is not compiled
    before = product()
    with emulated_gpu("sm_90") as gpu:
        compiled = product()
    after = product()
    assert len(gpu.reports) == 1
    assert torch.equal(before, after)
    torch.testing.assert_close(compiled, before, rtol=2e-3, atol=2e-2)
