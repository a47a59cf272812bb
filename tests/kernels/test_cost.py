"""Counts against counting by hand, and the model's arithmetic. No figure here is a measurement."""

import sys
from collections import Counter
from dataclasses import replace

import pytest
import slim_kernels.linear.triton  # noqa: F401 - before a device is emulated
import torch
import triton
import triton.language as tl
from ptx_emulator import launch
from ptx_emulator.device import emulated_gpu
from slim_kernels.cost.binary import Binary, read_sass
from slim_kernels.cost.counting import count_at
from slim_kernels.cost.devices import DEVICES
from slim_kernels.cost.model import predict, resident_programs
from slim_kernels.cost.pipes import sass_pipe
from slim_kernels.cost.problems import problems
from slim_kernels.cost.regions import find_loops
from slim_kernels.cost.work import Work, count_work, extrapolate, match_regions
from slim_kernels.prototype_loss.triton_passes import log_sum_exp
from slim_kernels.runtime.target import emulated_target

H100, H200 = DEVICES["H100"], DEVICES["H200"]


@triton.jit
def add_kernel(x, y, out, BLOCK: tl.constexpr):
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + o, tl.load(x + o) + tl.load(y + o))


@triton.jit
def matmul_kernel(x, y, out, depth, B: tl.constexpr):
    o, sums = tl.arange(0, B), tl.zeros([B, B], tl.float32)
    for first in range(0, depth, B):
        a = tl.load(x + o[:, None] * depth + (first + o)[None, :])
        b = tl.load(y + (first + o)[:, None] * B + o[None, :])
        sums += tl.dot(a, b)
    tl.store(out + o[:, None] * B + o[None, :], sums)


def works(target: str, run) -> list[Work]:
    """The launches of run()."""
    with emulated_gpu(target, detailed=True) as gpu:
        run()
        pairs = zip(gpu.reports, gpu.kernels, strict=True)
        return [count_work(report, kernel) for report, kernel in pairs]


@pytest.fixture(scope="module")
def matmul() -> dict[str, Work]:
    """A product of 64 x 128 by 128 x 64 on both kinds of tensor cores."""
    x, y = torch.randn(64, 128).bfloat16(), torch.randn(128, 64).bfloat16()
    return {
        target: works(target, lambda: matmul_kernel[1,](x, y, torch.empty(64, 64), 128, B=64))[0]
        for target in ("sm_80", "sm_90")
    }


def test_an_addition_moves_what_it_must() -> None:
    x, y = torch.randn(2, 2048)
    (work,) = works("sm_80", lambda: add_kernel[4,](x, y, torch.empty(2048), BLOCK=512))
    amounts = work.amounts
    # 4 programs of 4 warps; each thread has 4 numbers, one access of 16 bytes a tensor
    assert (amounts["programs"], work.warps, work.counted_in) == (4, 4, "SASS")
    assert amounts["requests"] == 4 * 4 * 3
    assert amounts["load_store"] == 4 * 4 * 3
    assert amounts["sectors"] == 3 * 2048 * 4 / 32
    assert amounts["touched"] == amounts["fetched"] == 3 * 2048 * 4
    assert amounts["fma"] >= 4 * 4 * 4  # the additions
    assert amounts["shared"] == amounts["tensor"] == 0
    (twice,) = works("sm_80", lambda: add_kernel[4,](x, x, torch.empty(2048), BLOCK=512))
    assert twice.amounts["sectors"] == amounts["sectors"]
    assert twice.amounts["touched"] == 2 * 2048 * 4  # x counts once
    (again,) = works("sm_80", lambda: add_kernel[4,](x, y, x, BLOCK=512))
    assert again.amounts["touched"] == again.amounts["fetched"] == 3 * 2048 * 4  # x: to and fro


def test_a_matrix_product_counts_its_operations(matmul) -> None:
    operations = 2 * 64 * 64 * 128
    ampere, hopper = matmul["sm_80"], matmul["sm_90"]
    assert ampere.amounts["tensor mma bf16"] == operations
    assert ampere.amounts["tensor"] == operations / (2 * 16 * 8 * 16)
    assert hopper.amounts["tensor wgmma bf16"] == operations
    # each wgmma, m64n64k16, reads both operands from shared memory: 2 x 64 x 16 numbers
    assert hopper.loops[0].shapes == {"m64n64k16": 4}
    assert hopper.amounts["shared"] - hopper.amounts["wavefronts"] == 8 * 2 * 64 * 16 * 2 / 128
    for work in matmul.values():
        assert (work.counted_in, len(work.loops), work.loops[0].iterations) == ("SASS", 1, 2)
        assert work.loops[0].instructions["tensor"] > 0
        assert work.amounts["fetched"] == 2 * (2 * 64 * 128) + 4 * 64 * 64


PTX = """
.version 8.0
.target sm_80
.address_size 64
.visible .entry strided(.param .u32 strided_param_0)
{
.reg .b32 %r<5>;
ld.param.u32 %r1, [strided_param_0];
mov.u32 %r2, %tid.x;
mul.lo.u32 %r3, %r2, %r1;
add.u32 %r3, %r3, 262144;
st.shared.b32 [%r3], %r2;
ret;
}
"""


@pytest.mark.parametrize(("stride", "wavefronts"), [(1, 1), (2, 2), (3, 1), (8, 8), (32, 32)])
def test_bank_conflicts_of_a_stride(stride: int, wavefronts: int) -> None:
    report = launch(PTX, (3, 1, 1), 64, [4 * stride], [], 64 * 4 * stride, detailed=True)
    assert report.traffic.wavefronts.sum() == 3 * 2 * wavefronts


def blank(**fields) -> Work:
    amounts = {"programs": 1000.0, "issue": 4e6, "alone": 1e6}
    return replace(Work("k", 8, 48 * 1024, 64, 0, "SASS", (), amounts), **fields)


@pytest.mark.parametrize(
    ("registers", "warps", "shared", "device", "resident"),
    [
        (64, 8, 0, "H100", 4),  # 65,536 / (64 * 256)
        (65, 8, 0, "H100", 3),  # registers of a warp come in units of 256
        (32, 4, 0, "H100", 16),  # 64 warps
        (32, 4, 0, "RTX4090", 12),  # 48 warps
        (16, 1, 0, "RTX4090", 24),  # 24 blocks
        (32, 4, 112 * 1024, "H100", 2),  # (112 + 1) KB of 228
        (32, 4, 99 * 1024, "RTX4090", 1),
    ],
)
def test_occupancy(registers: int, warps: int, shared: int, device: str, resident: int) -> None:
    work = blank(registers=registers, warps=warps, shared=shared)
    assert resident_programs(work, DEVICES[device]) == resident


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit an SM of RTX4090"):
        predict(blank(shared=160 * 1024), DEVICES["RTX4090"])


def test_each_limit_by_hand() -> None:
    amounts = {
        "programs": 132.0,
        "alone": 132 * 100.0,
        "issue": 132 * 4000.0,  # 1,000 clocks of 4 schedulers
        "fma": 132 * 1000.0,
        "alu": 132 * 1000.0,
        "sfu": 132 * 100.0,
        "load_store": 132 * 100.0,
        "tensor wgmma bf16": 132 * 4096.0 * 183,
        "tensor mma tf32": 132 * 2048.0 * 0.62 * 183,
        "fetched": 5.5e6,
        "touched": 4.8e6,
    }
    limits = predict(blank(amounts=amounts), H200).limits
    clocks = {name: limits[name] * 1.83e3 for name in limits}
    expected = {"tensor": 366 / 0.8, "issue": 1000, "fma": 250, "alu": 500, "sfu": 200}
    for name, value in {**expected, "load/store": 100, "latency": 100}.items():
        assert clocks[name] == pytest.approx(value), name
    assert (limits["L2"], limits["DRAM"]) == (pytest.approx(1), pytest.approx(1 / 0.9))
    assert predict(blank(amounts=amounts), H200).bound == "DRAM"


@pytest.mark.parametrize("name", ["issue", "alu", "sfu", "tensor wgmma bf16", "alone", "touched"])
def test_more_work_takes_longer(name: str) -> None:
    work = blank()
    sides = [
        predict(replace(work, amounts={**work.amounts, name: amount}), H100).microseconds
        for amount in (1e9, 2e9, 4e10)
    ]
    assert sides[0] <= sides[1] < sides[2]


def test_a_device_with_faster_memory_is_faster(matmul) -> None:
    work = matmul["sm_90"]
    busy = replace(work, amounts={**work.amounts, "touched": 1e9})
    assert predict(busy, H200).microseconds < predict(busy, H100).microseconds


def test_extrapolation_is_linear_in_each_size() -> None:
    corners = {(a, b): {"x": 3 + 2.0 * a + 5 * b + 7 * a * b} for a in (1, 2) for b in (4, 8)}
    assert extrapolate(corners, (100, 50))["x"] == pytest.approx(3 + 200 + 250 + 35_000)


def test_a_third_size_is_what_two_foretell() -> None:
    problem = next(p for p in problems() if p.op == "linear_residual")
    found = {n: count_at(problem, (n,), "sm_90")["forward"].launches[0] for n in (128, 256, 512)}
    corners = {(n,): found[n].amounts for n in (128, 256)}
    expected = extrapolate(corners, (512,))
    for name, amount in found[512].amounts.items():
        assert expected[name] == pytest.approx(amount, rel=0.001), name


def test_a_third_size_of_both_axes(monkeypatch) -> None:
    monkeypatch.setattr(sys.modules[log_sum_exp.__module__], "ENOUGH_PROGRAMS", 1)

    def at(rows: int, columns: int) -> dict[str, float]:
        x, y = torch.randn(rows, 64).half(), torch.randn(columns, 64).half()
        with emulated_target(80):
            return works("sm_80", lambda: log_sum_exp(x, y, None, 0.1, torch.float32))[0].amounts

    corners = {(a, b): at(a, b) for a in (128, 256) for b in (128, 256)}
    expected, found = extrapolate(corners, (384, 512)), at(384, 512)
    for name, amount in found.items():
        assert expected[name] == pytest.approx(amount, rel=0.01), name


SASS = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;      /* 0x1 */
        /*0010*/                   LDG.E.128 R4, [R2.64] ;     /* 0x1 */
        /*0020*/               @P0 FFMA R1, R2, R3, R4 ;       /* 0x1 */
        /*0030*/                   MUFU.EX2 R1, R1 ;           /* 0x1 */
        /*0040*/              @!P1 BRA 0x20 ;                  /* 0x1 */
        /*0050*/                   STG.E [R2.64], R1 ;         /* 0x1 */
        /*0060*/                   EXIT ;                      /* 0x1 */
        /*0070*/                   BRA 0x70;                   /* 0x1 */
        /*0080*/                   NOP;                        /* 0x1 */
"""


def test_loops_of_a_binary() -> None:
    binary = read_sass(SASS, 40, 0)
    assert binary.loops == (Counter(fma=1, sfu=1, control=1),)
    assert binary.outside == Counter(alu=1, load_store=2, control=2)


@pytest.mark.parametrize(
    ("back", "loops"),
    [
        ([(3, 9), (3, 7)], {3: 9}),  # two ways to go on
        ([(5, 7), (2, 9)], {2: 9, 5: 7}),  # one in the other
        ([(3, 9), (4, 12)], {3: 12}),  # one loop, entered in two places
        ([(3, 5), (6, 8)], {3: 5, 6: 8}),
    ],
)
def test_loops_from_branches(back: list[tuple[int, int]], loops: dict[int, int]) -> None:
    assert find_loops(back) == loops


@pytest.mark.parametrize(
    ("opcode", "pipe"),
    [
        ("HGMMA.64x64x16.F32.BF16", "tensor"),
        ("IMAD.WIDE", "fma"),
        ("LDGSTS.E.BYPASS.128", "load_store"),
        ("SHFL.BFLY", "load_store"),
        ("F2FP.BF16.F32.PACK_AB", "alu"),
        ("UIADD3", "control"),
        ("BAR.SYNC.DEFER_BLOCKING", "control"),
    ],
)
def test_pipes_of_instructions(opcode: str, pipe: str) -> None:
    assert sass_pipe(opcode) == pipe


def test_other_loops_than_the_ptx_has_are_not_matched() -> None:
    loop = Counter(tensor=4, alu=9)
    ptx = [Counter(alu=5), Counter(tensor=4, alu=20)]
    assert match_regions(Binary(1, 0, Counter(alu=3), (loop,)), ptx) == [Counter(alu=3), loop]
    unrolled = Binary(1, 0, Counter(alu=3), (Counter(tensor=8),))
    assert match_regions(unrolled, ptx) is None
    assert match_regions(Binary(1, 0, Counter(alu=3), ()), ptx) is None
