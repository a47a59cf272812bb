"""Find a race in a Triton kernel without a GPU."""

import torch
import triton
import triton.language as tl
from ptx_emulator import EmulationError
from ptx_emulator.device import emulated_gpu


@triton.jit
def row_sums(x, out, N: tl.constexpr):
    row = tl.program_id(0)
    tl.store(out + row, tl.sum(tl.load(x + row * N + tl.arange(0, N)), 0))


def without_first_barrier(ptx: str) -> str:
    return ptx.replace("bar.sync", "// bar.sync", 1)


x, out = torch.randn(3, 512), torch.empty(3)
with emulated_gpu("sm_90"):
    row_sums[(3,)](x, out, 512)
print("right:", torch.allclose(out, x.sum(1), atol=1e-4))

try:
    with emulated_gpu("sm_90"):
        row_sums[(3,)](x[:, :500], out, 512)  # the last row ends early
except EmulationError as error:
    print(error)

try:
    with emulated_gpu("sm_90", edit=without_first_barrier):
        row_sums[(3,)](x, out, 512)
except EmulationError as error:
    print(error)
