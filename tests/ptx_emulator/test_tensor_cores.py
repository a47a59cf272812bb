"""mma.sync and wgmma on hand-written fragments and layouts, against numpy's products."""

import numpy as np
import pytest
import torch
from ptx_emulator import EmulationError

from tests.ptx_emulator.programs import Array, place, run

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "tf32": torch.float32}


def matrix(rows: int, columns: int, kind: str, seed: int) -> tuple[Array, Array]:
    """Random numbers that the kind holds exactly, in float64, and their bits."""
    numbers = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    numbers = numbers.to(torch.bfloat16).to(DTYPES[kind])  # bfloat16's are in all three
    words = numbers.view(torch.int32 if kind == "tf32" else torch.int16).numpy()
    return numbers.double().numpy(), words.view(np.uint32 if kind == "tf32" else np.uint16)


def fragment(bits: Array, places: list[list[tuple[int, int]]]) -> Array:
    """(lanes, registers) words of the elements that each lane holds, in the order of places."""
    rows = [[bits[place] for place in lane] for lane in places]
    return np.array(rows, bits.dtype).view(np.uint32).reshape(len(rows), -1)


def left_places(lane: int, kind: str, warp: int = 0) -> list[tuple[int, int]]:
    """Rows and columns of a lane's part of A (16 rows a warp), as the PTX manual draws them."""
    wide, depth = (1, 4) if kind == "tf32" else (2, 8)
    row, first = 16 * warp + lane // 4, lane % 4 * wide
    return [
        (row + 8 * (n % 2), first + depth * (n // 2) + e) for n in range(4) for e in range(wide)
    ]


def right_places(lane: int, kind: str, registers: int) -> list[tuple[int, int]]:
    wide, depth = (1, 4) if kind == "tf32" else (2, 8)
    return [
        (lane % 4 * wide + depth * n + e, lane // 4) for n in range(registers) for e in range(wide)
    ]


def load_words(pointer: int, registers: list[str]) -> str:
    body = place(pointer, 4 * len(registers))
    return body + "".join(
        f"ld.global.b32 {name}, [%d90+{4 * n}];\n" for n, name in enumerate(registers)
    )


def store_words(pointer: int, registers: list[str]) -> str:
    body = place(pointer, 4 * len(registers))
    return body + "".join(
        f"st.global.b32 [%d90+{4 * n}], {name};\n" for n, name in enumerate(registers)
    )


@pytest.mark.parametrize(("kind", "depth"), [("bf16", 16), ("f16", 16), ("bf16", 8), ("tf32", 8)])
def test_product_of_a_warp(kind: str, depth: int) -> None:
    (a, a_bits), (b, b_bits) = matrix(16, depth, kind, 0), matrix(depth, 8, kind, 1)
    c = np.random.default_rng(2).standard_normal((16, 8)).astype(np.float32)
    count = depth * 16 * (4 if kind == "tf32" else 2) // 128
    short = [left_places(lane, kind)[: count * (1 if kind == "tf32" else 2)] for lane in range(32)]
    left = fragment(a_bits, short)
    right = fragment(b_bits, [right_places(lane, kind, count // 2) for lane in range(32)])
    sums = [
        [(lane // 4 + 8 * (n // 2), 2 * (lane % 4) + n % 2) for n in range(4)] for lane in range(32)
    ]
    out = np.array([[c[p] for p in lane] for lane in sums], np.float32)
    a_names, b_names = [f"%r{n}" for n in range(count)], [f"%r{10 + n}" for n in range(count // 2)]
    c_names = [f"%r{20 + n}" for n in range(4)]
    names = "{" + ", ".join(c_names) + "}"
    run(
        load_words(0, a_names)
        + load_words(1, b_names)
        + load_words(2, c_names)
        + f"mma.sync.aligned.m16n8k{depth}.row.col.f32.{kind}.{kind}.f32 {names}, "
        + f"{{{', '.join(a_names)}}}, {{{', '.join(b_names)}}}, {names};\n"
        + store_words(2, c_names),
        left,
        right,
        out,
    )
    want = c + a @ b
    got = np.zeros_like(c)
    for lane, places in enumerate(sums):
        for n, p in enumerate(places):
            got[p] = out[lane, n]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def laid_out(bits: Array, width: int, along_rows: bool) -> tuple[Array, int, int]:
    """A matrix (rows, depth) as wgmma reads it from shared memory, with the leading and the stride
    byte offset. width: bytes of a swizzled row (16: none); along_rows: rows, not depth, are
    contiguous.

    Cores of 8 lines of `width` bytes; the 16-byte chunks of a line change places with its number:
    of 8 chunks by the line, of 4 by half of it, of 2 by a quarter.
    """
    size = bits.itemsize
    per, chunks = width // size, width // 16
    lines = bits.T if along_rows else bits  # contiguous along the second axis
    count, length = lines.shape
    core = 8 * width
    memory = np.zeros(count * length * size, np.uint8)
    across = length // per  # cores along the contiguous axis
    for line in range(count):
        for block in range(across):
            start = (line // 8 * across + block) * core + line % 8 * width
            for chunk in range(chunks):
                moved = chunk ^ (line % 8 // (8 // chunks)) if chunks > 1 else chunk
                first = block * per + chunk * (16 // size)
                piece = np.ascontiguousarray(lines[line, first : first + 16 // size])
                memory[start + 16 * moved : start + 16 * moved + 16] = piece.view(np.uint8)
    between_lines, between_blocks = across * core, core
    if along_rows and width > 16:
        return memory, between_blocks, between_lines  # leading: along the rows
    if along_rows:
        return memory, between_lines, between_blocks
    return memory, between_blocks, between_lines


MODES = {16: 0, 128: 1, 64: 2, 32: 3}


def descriptor(offset: int, width: int, leading: int, stride: int) -> str:
    value = MODES[width] << 62 | (stride >> 4) << 32 | (leading >> 4) << 16 | offset >> 4
    return f"""
    mov.u32 %r80, memory;
    cvt.u64.u32 %d80, %r80;
    shr.u64 %d80, %d80, 4;
    and.b64 %d80, %d80, 16383;
    add.s64 %d80, %d80, {value - (1 << 64) if value >> 63 else value};
    """


def filled_memory(pointer: int, size: int) -> str:
    """Copies p`pointer` into shared memory, 16 bytes a thread and turn."""
    body = ""
    for first in range(0, size, 2048):
        body += f"""
        shl.b32 %r81, %t, 4;
        add.u32 %r81, %r81, {first};
        setp.lt.u32 %p8, %r81, {size};
        cvt.u64.u32 %d81, %r81;
        add.s64 %d81, %d81, %ptr{pointer};
        mov.u32 %r82, memory;
        add.u32 %r82, %r82, %r81;
        @%p8 ld.global.v4.b32 {{%r83, %r84, %r85, %r86}}, [%d81];
        @%p8 st.shared.v4.b32 [%r82], {{%r83, %r84, %r85, %r86}};
        """
    return body


def warpgroup_product(kind: str, width: int, a_along: bool, b_along: bool, registers: bool) -> None:
    columns, depth = 64, 32 // (4 if kind == "tf32" else 2)
    # so many numbers of depth that a swizzled line is full; the product reads the first
    whole = max(depth, width // (4 if kind == "tf32" else 2))
    (a, a_bits), (b, b_bits) = matrix(64, whole, kind, 3), matrix(columns, whole, kind, 4)
    a_memory, *a_offsets = laid_out(a_bits, width, a_along)
    b_memory, *b_offsets = laid_out(b_bits, width, b_along)
    at = -(-len(a_memory) // 1024) * 1024
    memory = np.zeros(at + len(b_memory), np.uint8)
    memory[: len(a_memory)], memory[at:] = a_memory, b_memory
    out = np.full((128, columns // 2), 0.5, np.float32)
    sums = [f"%r{n}" for n in range(columns // 2)]
    names = "{" + ", ".join(sums) + "}"
    body = filled_memory(0, len(memory)) + load_words(1, sums)
    body += descriptor(at, width, *b_offsets) + "mov.b64 %d60, %d80;\n"
    arrays = [memory, out]
    if registers:
        places = [left_places(t % 32, kind, t // 32) for t in range(128)]
        arrays.append(fragment(a_bits, places))
        left = [f"%r{60 + n}" for n in range(4)]
        body += load_words(2, left)
        first, flags = "{" + ", ".join(left) + "}", f", {int(b_along)}"
    else:
        body += descriptor(0, width, *a_offsets) + "mov.b64 %d61, %d80;\n"
        first, flags = "%d61", f", {int(a_along)}, {int(b_along)}"
    if kind == "tf32":
        flags = ""
    name = f"wgmma.mma_async.sync.aligned.m64n{columns}k{depth}.f32.{kind}.{kind}"
    run(
        f"""{body}
        setp.eq.u32 %p1, 0, 0;
        fence.proxy.async.shared::cta;
        bar.sync 0;
        wgmma.fence.sync.aligned;
        {name} {names}, {first}, %d60, %p1, 1, 1{flags};
        wgmma.commit_group.sync.aligned;
        wgmma.wait_group.sync.aligned 0;
        """
        + store_words(1, sums),
        *arrays,
        threads=128,
        shared=len(memory),
    )
    want = 0.5 + a[:, :depth] @ b[:, :depth].T
    got = np.zeros((64, columns))
    for t in range(128):
        for n in range(columns // 2):
            row = 16 * (t // 32) + t % 32 // 4 + 8 * (n % 4 // 2)
            got[row, 8 * (n // 4) + 2 * (t % 4) + n % 2] = out[t, n]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [16, 32, 64, 128])
@pytest.mark.parametrize(("a_along", "b_along"), [(False, False), (True, False), (False, True)])
def test_product_of_a_warpgroup(width: int, a_along: bool, b_along: bool) -> None:
    warpgroup_product("bf16", width, a_along, b_along, registers=False)


@pytest.mark.parametrize("b_along", [False, True])
@pytest.mark.parametrize("width", [32, 128])
def test_a_warpgroups_left_matrix_in_registers(width: int, b_along: bool) -> None:
    warpgroup_product("f16", width, False, b_along, registers=True)


@pytest.mark.parametrize("registers", [False, True])
def test_product_of_tf32(registers: bool) -> None:
    warpgroup_product("tf32", 64, False, False, registers)


def test_a_descriptor_outside_shared_memory_is_found() -> None:
    names = "{" + ", ".join(f"%r{n}" for n in range(4)) + "}"
    name = "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16"
    with pytest.raises(EmulationError, match="shared out of bounds"):
        run(
            descriptor(4096, 32, 16, 256)
            + f"""
            setp.ne.u32 %p1, 0, 0;
            wgmma.fence.sync.aligned;
            {name} {names}, %d80, %d80, %p1, 1, 1, 0, 0;
            """,
            np.zeros(1),
            threads=128,
            shared=1024,
        )
