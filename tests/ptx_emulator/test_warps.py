"""Exchanges, votes and reductions of a warp, matrices through shared memory, and where threads part
and meet.
"""

import numpy as np
import pytest

from tests.ptx_emulator.programs import Array, apply, place, run

LANES = np.arange(64)


def exchanged(mode: str, lane: int, by: int, clamp: int) -> tuple[int, bool]:
    """shfl as the PTX manual's pseudocode has it: the lane read, and whether it is in range."""
    segment, limit = clamp >> 8 & 31, clamp & 31
    last = (lane & segment) | (limit & ~segment)
    if mode == "up":
        other, inside = lane - by, lane - by >= last
    elif mode == "down":
        other, inside = lane + by, lane + by <= last
    elif mode == "bfly":
        other, inside = lane ^ by, lane ^ by <= last
    else:
        other = (lane & segment) | (by & ~segment & 31)
        inside = other <= last
    return (other if inside else lane), inside


@pytest.mark.parametrize("clamp", [31, 0x181F, 0x1C1F, 7])
@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("by", [0, 1, 5, 16, 31])
def test_exchange(mode: str, by: int, clamp: int) -> None:
    limit = clamp & ~31 if mode == "up" else clamp
    values, inside = apply(
        f"shfl.sync.{mode}.b32",
        "b32 pred",
        ("b32", 100 + LANES),
        ("", str(by)),
        ("", str(limit)),
        ("", "-1"),
    )
    want = [exchanged(mode, lane % 32, by, limit) for lane in LANES.tolist()]
    assert values.tolist() == [100 + n // 32 * 32 + w[0] for n, w in enumerate(want)]
    assert inside.tolist() == [w[1] for w in want]


def test_votes_and_reductions() -> None:
    odd = LANES % 2
    ballot = apply("vote.sync.ballot.b32", "b32", ("pred", odd), ("", "-1"))
    assert set(ballot.tolist()) == {0xAAAAAAAA}
    last = (LANES == 63).astype(int)
    assert (
        apply("vote.sync.any.pred", "pred", ("pred", last), ("", "-1")).tolist()
        == [0] * 32 + [1] * 32
    )
    assert apply("vote.sync.all.pred", "pred", ("pred", last), ("", "-1")).tolist() == [0] * 64
    values = LANES.astype(np.int32) * 7 - 100
    for name, function in (("add", np.sum), ("min", np.min), ("max", np.max)):
        got = apply(f"redux.sync.{name}.s32", "s32", ("s32", values), ("", "-1"))
        assert got.tolist() == np.repeat(function(values.reshape(2, 32), axis=1), 32).tolist()


def stored_rows() -> str:
    """Every thread's 16-byte row of p0, written to its place in shared memory."""
    return f"""
{place(0, 16)}
ld.global.v4.b32 {{%r1, %r2, %r3, %r4}}, [%d90];
mov.u32 %r5, memory;
shl.b32 %r6, %t, 4;
add.u32 %r5, %r5, %r6;
st.shared.v4.b32 [%r5], {{%r1, %r2, %r3, %r4}};
bar.sync 0;
"""


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_matrices_from_shared_memory(count: int, transposed: bool) -> None:
    matrices = np.random.default_rng(0).integers(0, 1 << 16, (4, 8, 8)).astype(np.uint16)
    out = np.zeros((32, 2 * count), np.uint16)
    registers = ", ".join(f"%r{10 + n}" for n in range(count))
    trans = ".trans" if transposed else ""
    width = f".v{count}" if count > 1 else ""
    run(
        f"""{stored_rows()}
        ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{registers}}}, [%r5];
        {place(1, 4 * count)}
        st.global{width}.b32 [%d90], {{{registers}}};""",
        matrices,
        out,
        shared=512,
    )
    # thread t holds row t / 4, columns 2 (t % 4) and the next, of each matrix
    for lane in range(32):
        for n in range(count):
            matrix = matrices[n].T if transposed else matrices[n]
            column = 2 * (lane % 4)
            assert (
                out[lane, 2 * n : 2 * n + 2].tolist()
                == matrix[lane // 4, column : column + 2].tolist()
            )


@pytest.mark.parametrize("trans", ["", ".trans"])
def test_matrices_to_shared_memory_are_what_comes_from_it(trans: str) -> None:
    words = np.random.default_rng(1).integers(0, 1 << 32, (32, 4)).astype(np.uint32)
    out = np.zeros_like(words)
    run(
        f"""
        {place(0, 16)}
        ld.global.v4.b32 {{%r1, %r2, %r3, %r4}}, [%d90];
        mov.u32 %r5, memory;
        shl.b32 %r6, %t, 4;
        add.u32 %r5, %r5, %r6;
        stmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 [%r5], {{%r1, %r2, %r3, %r4}};
        ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%r1, %r2, %r3, %r4}}, [%r5];
        {place(1, 16)}
        st.global.v4.b32 [%d90], {{%r1, %r2, %r3, %r4}};""",
        words,
        out,
        shared=512,
    )
    assert np.array_equal(out, words)


def test_threads_part_and_meet() -> None:
    out = np.zeros(64, np.uint32)
    run(
        f"""
        mov.u32 %r1, %laneid;
        setp.lt.u32 %p1, %r1, 10;
        @%p1 bra FEW;
        add.u32 %r1, %r1, 100;
        bra MEET;
        FEW:
        add.u32 %r1, %r1, 1000;
        MEET:
        shfl.sync.idx.b32 %r2, %r1, 9, 31, -1;
        add.u32 %r1, %r1, %r2;
        {place(0, 4)}
        st.global.u32 [%d90], %r1;""",
        out,
        threads=64,
    )
    lane = LANES % 32
    assert out.tolist() == (np.where(lane < 10, 1000, 100) + lane + 1009).tolist()


@pytest.mark.parametrize("of", ["%ctaid.x", "%tid.x"])
def test_loops_of_different_lengths(of: str) -> None:
    out = np.zeros((5, 32), np.uint32)
    run(
        f"""
        mov.u32 %r1, {of};
        mov.u32 %r2, 0;
        LOOP:
        setp.eq.u32 %p1, %r1, 0;
        @%p1 bra DONE;
        add.u32 %r2, %r2, %r1;
        sub.u32 %r1, %r1, 1;
        bra LOOP;
        DONE:
        mov.u32 %r3, %ctaid.x;
        mad.lo.u32 %r4, %r3, 32, %t;
        mul.wide.u32 %d1, %r4, 4;
        add.s64 %d1, %d1, %ptr0;
        st.global.u32 [%d1], %r2;""",
        out,
        grid=(5, 1, 1),
    )
    block, thread = np.indices(out.shape)
    n = block if of == "%ctaid.x" else thread
    assert np.array_equal(out, n * (n + 1) // 2)


def test_blocks_return_early() -> None:
    out = np.zeros((3, 2, 2, 32), np.uint32)
    run(
        """
        mov.u32 %r1, %ctaid.x;
        mov.u32 %r2, %ctaid.y;
        mov.u32 %r3, %ctaid.z;
        mov.u32 %r7, %nctaid.x;
        setp.eq.u32 %p1, %r1, 1;
        @%p1 ret;
        mad.lo.u32 %r4, %r3, 2, %r2;
        mad.lo.u32 %r4, %r4, %r7, %r1;
        mad.lo.u32 %r5, %r4, 32, %t;
        mul.wide.u32 %d1, %r5, 4;
        add.s64 %d1, %d1, %ptr0;
        bar.sync 0;
        st.global.u32 [%d1], %r4;""",
        out,
        grid=(2, 2, 3),
    )
    number = np.arange(12).reshape(3, 2, 2)
    assert np.array_equal(out[..., 5], np.where(number % 2, 0, number))


def test_threads_return_early() -> None:
    out = np.zeros(64, np.uint32)
    run(
        f"""
        setp.ge.u32 %p1, %t, 40;
        {place(0, 4)}
        @%p1 ret;
        setp.lt.u32 %p2, %t, 3;
        @%p2 bra FEW;
        st.global.u32 [%d90], %t;
        exit;
        FEW:
        st.global.u32 [%d90], 77;""",
        out,
        threads=64,
    )
    assert out.tolist() == [77] * 3 + list(range(3, 40)) + [0] * 24


@pytest.mark.parametrize(
    ("name", "kind", "function"),
    [
        ("add", "f32", np.sum),
        ("max", "s32", np.max),
        ("min", "u32", np.min),
        ("add", "u64", np.sum),
    ],
)
def test_atomic_operations(name: str, kind: str, function: np.ufunc) -> None:
    values: Array = (np.arange(64) * 37 % 101).astype(
        {"f": "f", "s": "i", "u": "u"}[kind[0]] + str(int(kind[1:]) // 8)
    )
    total = np.full(1, 50, values.dtype)
    olds = np.zeros_like(values)
    run(
        f"""
        .reg .b{kind[1:]} %x<3>;
        {place(0, values.itemsize)}
        ld.global.{kind} %x0, [%d90];
        atom.global.gpu.relaxed.{name}.{kind} %x1, [%ptr1], %x0;
        {place(2, values.itemsize)}
        st.global.{kind} [%d90], %x1;
        red.global.{name}.{kind} [%ptr1], %x0;""",
        values,
        total,
        olds,
        threads=64,
    )
    once = function([50, *values.tolist()])
    assert total[0] == (2 * once - 50 if name == "add" else once)
    assert olds[0] == 50


def test_compare_and_swap() -> None:
    lock, olds = np.array([7], np.uint32), np.zeros(32, np.uint32)
    run(
        f"""
        atom.global.cas.b32 %r1, [%ptr0], 7, %t;
        {place(1, 4)}
        st.global.b32 [%d90], %r1;""",
        lock,
        olds,
    )
    assert lock[0] == 0  # the first thread swapped, and 7 was gone for the others
    assert olds.tolist() == [7] + [0] * 31
