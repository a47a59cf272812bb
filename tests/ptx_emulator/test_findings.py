"""Each kind of finding, with the place that it names; and what is no kernel or no launch."""

from typing import Any

import numpy as np
import pytest
from ptx_emulator import KINDS, EmulationError, Finding, PTXError, Tensor, launch, parse

from tests.ptx_emulator.programs import Array, place, program, run

OWN_WORD = """
mov.u32 %r5, memory;
shl.b32 %r6, %t, 2;
add.u32 %r5, %r5, %r6;
"""
# %r7: the word of the thread 32 further, of 64
OTHER_WARPS_WORD = """
xor.b32 %r7, %r6, 128;
mov.u32 %r8, memory;
add.u32 %r7, %r7, %r8;
"""
SUMS = "{" + ", ".join(f"%r{n}" for n in range(20, 24)) + "}"
PRODUCT = "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16"
ZERO_TILE = f"""
{OWN_WORD}
st.shared.u32 [%r5], 0;
st.shared.u32 [%r5+512], 0;
st.shared.u32 [%r5+1024], 0;
st.shared.u32 [%r5+1536], 0;
st.shared.u32 [%r5+2048], 0;
setp.ne.u32 %p1, 0, 0;
mov.u32 %r8, memory;
shr.u32 %r8, %r8, 4;
and.b32 %r8, %r8, 16383;
cvt.u64.u32 %d80, %r8;
add.s64 %d80, %d80, {16 << 32 | 8 << 16};
"""
MULTIPLY = f"{PRODUCT} {SUMS}, %d80, %d80, %p1, 1, 1, 0, 0;\nwgmma.commit_group.sync.aligned;\n"


def found(body: str, *arrays: Array, **options: Any) -> Finding:
    """The only finding of a body whose line 7 is marked; its kernel, source and text are those of
    the marked instruction.
    """
    before, _, after = body.partition("HERE")
    marked = after.strip().splitlines()[0].rstrip(";")
    text = (
        f"{before}\n.loc 1 7 3\n{after.partition(';')[0]};\n.loc 1 8 3\n{after.partition(';')[2]}"
    )
    with pytest.raises(EmulationError) as caught:
        run(text, *arrays, **options)
    (finding,) = caught.value.findings
    assert finding.kernel == "test"
    assert finding.source == "kernel.py:7"
    assert finding.instruction == " ".join(marked.split())
    assert str(finding) in str(caught.value)
    return finding


def place_of(finding: Finding) -> tuple[str, tuple[int, int, int], int, str]:
    return finding.kind, finding.block, finding.warp, finding.address


def test_out_of_bounds() -> None:
    x = np.zeros(100, np.float32)
    finding = found(f"{place(0, 4)} HERE ld.global.f32 %f1, [%d90];", x, threads=128)
    address = "byte 400 of p0, which has 400"
    assert place_of(finding) == ("out of bounds", (0, 0, 0), 3, address)
    written = found(f"{place(0, 4)} HERE st.global.f32 [%d90+-4], 0f00000000;", x)
    assert written.address == "byte -4 of p0, which has 400"


def test_misaligned() -> None:
    x = np.zeros(200, np.float32)
    body = f"{place(0, 16)} HERE ld.global.v4.f32 {{%f1, %f2, %f3, %f4}}, [%d90+4];"
    finding = found(body, x, grid=(1, 1, 1))
    assert place_of(finding) == ("misaligned", (0, 0, 0), 0, "byte 4 of p0, which has 800")


def test_shared_out_of_bounds() -> None:
    body = f"{OWN_WORD} HERE st.shared.u32 [%r5+128], 0;"
    finding = found(body, np.zeros(1), threads=64, shared=256, grid=(2, 1, 1))
    assert place_of(finding) == ("shared out of bounds", (0, 0, 0), 1, "shared byte 256")


def test_uninitialised() -> None:
    body = f"""{OWN_WORD}
    setp.ne.u32 %p1, %t, 40;
    @%p1 st.shared.u32 [%r5], 0;
    HERE ld.shared.u32 %r1, [%r5];"""
    finding = found(body, np.zeros(1), threads=64, shared=256)
    assert place_of(finding) == ("uninitialised", (0, 0, 0), 1, "shared byte 160")


@pytest.mark.parametrize(
    "access", ["ld.shared.u32 %r1, [%r7]", "st.shared.u32 [%r7], 1"], ids=["read", "write"]
)
def test_race_with_a_write(access: str) -> None:
    body = f"""{OWN_WORD} {OTHER_WARPS_WORD}
    st.shared.u32 [%r5], 0;
    HERE {access};"""
    finding = found(body, np.zeros(1), threads=64, shared=256)
    assert place_of(finding) == ("race", (0, 0, 0), 0, "shared byte 128")
    run(body.replace("HERE", "bar.sync 0;"), np.zeros(1), threads=64, shared=256)


def test_race_with_a_read() -> None:
    body = f"""{OWN_WORD} {OTHER_WARPS_WORD}
    st.shared.u32 [%r5], 0;
    bar.sync 0;
    ld.shared.u32 %r1, [%r7];
    HERE st.shared.u32 [%r5], 1;"""
    finding = found(body, np.zeros(1), threads=64, shared=256)
    assert place_of(finding) == ("race", (0, 0, 0), 0, "shared byte 0")


def test_writes_of_the_same_value_are_no_race() -> None:
    run("st.shared.u32 [memory], 7;", np.zeros(1), threads=64, shared=16)
    finding = found("HERE st.shared.u32 [memory], %t;", np.zeros(1), threads=64, shared=16)
    assert finding.kind == "race"


def test_proxy() -> None:
    body = f"{ZERO_TILE} FENCE bar.sync 0; wgmma.fence.sync.aligned; HERE {MULTIPLY}"
    options: dict[str, Any] = {"threads": 128, "shared": 4096}
    finding = found(body.replace("FENCE", ""), np.zeros(1), **options)
    assert place_of(finding) == ("proxy", (0, 0, 0), 0, "shared byte 0")
    fence = "fence.proxy.async.shared::cta;"
    run(body.replace("FENCE", fence).replace("HERE", ""), np.zeros(1), **options)


FENCED_TILE = f"{ZERO_TILE} fence.proxy.async.shared::cta; bar.sync 0;"


def test_in_flight_register() -> None:
    body = f"""{FENCED_TILE} wgmma.fence.sync.aligned; {MULTIPLY}
    WAIT HERE add.f32 %f1, %r20, %r21;"""
    options: dict[str, Any] = {"threads": 128, "shared": 4096}
    finding = found(body.replace("WAIT", ""), np.zeros(1), **options)
    address = "a register of a product that was not waited for"
    assert place_of(finding) == ("in flight", (0, 0, 0), 0, address)
    waited = body.replace("WAIT", "wgmma.wait_group.sync.aligned 0;").replace("HERE", "")
    run(waited, np.zeros(1), **options)


def test_in_flight_register_without_fence() -> None:
    body = f"""{FENCED_TILE} wgmma.fence.sync.aligned;
    add.u32 %r1, %r20, 1;
    HERE {MULTIPLY}"""
    finding = found(body, np.zeros(1), threads=128, shared=4096)
    assert (finding.kind, finding.address) == (
        "in flight",
        "a register used since the last wgmma.fence",
    )


def test_in_flight_operand() -> None:
    body = f"""{FENCED_TILE} wgmma.fence.sync.aligned; {MULTIPLY} bar.sync 0;
    HERE st.shared.u32 [%r5], 0;"""
    finding = found(body, np.zeros(1), threads=128, shared=4096)
    assert place_of(finding) == ("in flight", (0, 0, 0), 0, "shared byte 0")


def test_an_operand_that_one_warp_waited_for_is_still_read_by_others() -> None:
    body = f"""{FENCED_TILE} wgmma.fence.sync.aligned; {MULTIPLY} bar.sync 0;
    wgmma.wait_group.sync.aligned 0;
    HERE st.shared.u32 [%r5], 0;"""
    assert found(body, np.zeros(1), threads=128, shared=4096).kind == "race"
    run(body.replace("HERE", "bar.sync 0;"), np.zeros(1), threads=128, shared=4096)


def test_in_flight_copy() -> None:
    x = np.arange(128, dtype=np.uint32)
    body = f"""{place(0, 16)} mov.u32 %r5, memory; shl.b32 %r6, %t, 4; add.u32 %r5, %r5, %r6;
    cp.async.cg.shared.global [%r5], [%d90], 16; cp.async.commit_group;
    cp.async.cg.shared.global [%r5+512], [%d90], 16, 0; cp.async.commit_group;
    cp.async.wait_group KEEP;
    ld.shared.u32 %r1, [%r5+4];
    HERE ld.shared.u32 %r2, [%r5+516];
    {place(1, 8)} st.global.v2.u32 [%d90], {{%r1, %r2}};"""
    out = np.ones((32, 2), np.uint32)
    finding = found(body.replace("KEEP", "1"), x, out, shared=1024)
    assert place_of(finding) == ("in flight", (0, 0, 0), 0, "shared byte 516")
    run(body.replace("KEEP", "0").replace("HERE", ""), x, out, shared=1024)
    assert out.tolist() == [[n, 0] for n in x[1::4]]


def test_blocks() -> None:
    x = np.zeros(32, np.float32)
    body = f"{place(0, 4)} HERE st.global.f32 [%d90], 0f3F800000;"
    finding = found(body, x, threads=32, grid=(1, 3, 1))
    assert place_of(finding)[0] == "blocks"
    assert finding.address == "byte 0 of p0, which has 128"
    run(f"{place(0, 4)} ld.global.f32 %f1, [%d90];", x, grid=(4, 1, 1))


def test_barrier() -> None:
    body = "setp.lt.u32 %p1, %t, 40; HERE @%p1 bar.sync 0;"
    finding = found(body, np.zeros(1), threads=64)
    assert place_of(finding) == ("barrier", (0, 0, 0), 1, "a thread that is elsewhere")


def test_warp() -> None:
    body = "setp.ne.u32 %p1, %t, 40; HERE @%p1 shfl.sync.bfly.b32 %r1, %t, 1, 31, -1;"
    finding = found(body, np.zeros(1), threads=64, grid=(2, 1, 1))
    assert place_of(finding) == ("warp", (0, 0, 0), 1, "a thread that is elsewhere")


def test_a_test_for_each_kind() -> None:
    tests = " ".join(name for name in globals() if name.startswith("test_"))
    for kind in KINDS:
        assert f"test_{kind.replace(' ', '_')}" in tests, kind


def test_findings_without_an_error() -> None:
    x = np.zeros(16, np.float32)
    report = run(f"{place(0, 4)} ld.global.f32 %f1, [%d90];", x, strict=False)
    assert [finding.kind for finding in report.findings] == ["out of bounds"]


def test_misuse_of_a_launch() -> None:
    text, x = program("", 1), np.zeros(4)
    tensor = Tensor(x.ctypes.data, x.view(np.uint8))
    with pytest.raises(PTXError, match="test has 1 parameters; 2 were given"):
        launch(text, (1, 1, 1), 32, [tensor.address, 7], [tensor])
    with pytest.raises(PTXError, match="48 threads is not made of whole warps"):
        launch(text, (1, 1, 1), 48, [tensor.address], [tensor])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("add.u32 %r1, %unknown, 1;", "register %unknown is not declared"),
        ("wobble.u32 %r1, %r2;", "does not know 'wobble.u32 %r1, %r2'"),
        ("bra NOWHERE;", "NOWHERE"),
        ("123 nonsense;", "'123 nonsense' is not known"),
        ("mov.u32 %r1, %nosuch.x;", "%nosuch.x"),
    ],
)
def test_text_that_is_not_known(body: str, message: str) -> None:
    with pytest.raises(PTXError, match=message):
        run(body, np.zeros(1))


def test_what_a_program_declares() -> None:
    found = parse(program("L: @!%p1 add.s32 %r1, %r2, -3; bra L;", 2, shared=64))
    assert (found.name, found.target, found.pointers) == ("test", "sm_90a", ("p0", "p1"))
    assert found.parameters == {"p0": (0, 8), "p1": (8, 8)}
    assert found.static_shared == 64
    added = found.instructions[found.labels["L"]]
    assert (added.name, added.modifiers, added.negated) == ("add", ("s32",), True)
    with pytest.raises(PTXError, match=r"has no \.entry"):
        parse(".version 8.0")
