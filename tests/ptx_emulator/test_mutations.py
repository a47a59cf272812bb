"""The emulator, with the tolerances of results, notices faults in kernels; `--thorough` runs them
all, as `python -m tests.ptx_emulator.mutations` does.
"""

from collections.abc import Iterator

import pytest

pytest.importorskip("triton", reason="compiling kernels needs triton")
import triton

from tests.ptx_emulator.faults import FAULTS
from tests.ptx_emulator.mutations import Fault, catch, changed_module, device, run
from tests.ptx_emulator.operations import OPERATIONS
from tests.ptx_emulator.ptx_faults import TRITON

# of which compiler's PTX the faults name places
needs_its_triton = pytest.mark.skipif(
    not triton.__version__.startswith(TRITON), reason=f"places in the PTX of Triton {TRITON}"
)
# quick ones, of every check: PTX of two kernels, and one module's source on each target
QUICK = [
    fault
    for fault in FAULTS
    if (fault.where == "linear_kernel")
    or (fault.where == "attention_forward_whole_kernel" and fault.target == "sm_90")
    or (fault.where == "linear.triton_kernels" and fault.operation == "norm_linear")
]


def escaped(faults: list[Fault]) -> Iterator[str]:
    """The faults that nothing caught, and those called harmless that something did."""
    for fault, by in catch(faults):
        if bool(by) == bool(fault.harmless):
            yield f"{fault.what} ({fault.where}, {fault.target}): {by or 'not caught'}"


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
@pytest.mark.parametrize("operation", ["norm_linear", "attention"])
def test_sound_kernels_pass(operation: str, target: str) -> None:
    with device(target) as gpu:
        assert run(operation, target) == ""
        assert gpu.kernels


@needs_its_triton
def test_faults_are_caught() -> None:
    assert list(escaped(QUICK)) == []


@pytest.mark.long
@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_all_sound_kernels_pass(target: str) -> None:
    with device(target):
        assert {operation: run(operation, target) for operation in OPERATIONS} == dict.fromkeys(
            OPERATIONS, ""
        )


@needs_its_triton
@pytest.mark.long
def test_at_least_95_percent_of_all_faults_are_caught() -> None:
    real = [fault for fault in FAULTS if not fault.harmless]
    found = list(escaped([fault for fault in FAULTS if fault not in QUICK]))
    assert len(real) >= 40
    assert len(found) <= 0.05 * len(real), found


def test_faults_are_seeded_in_every_operation() -> None:
    real = [fault for fault in FAULTS if not fault.harmless]
    for chosen in ([f for f in real if f.in_source], [f for f in real if not f.in_source]):
        assert len(chosen) >= 40
        assert {fault.target for fault in chosen} == {"sm_80", "sm_90"}
    assert {fault.operation for fault in real} == set(OPERATIONS)


def test_a_changed_module_is_put_back() -> None:
    from slim_kernels.attention import triton, triton_kernels, triton_rotary

    before = triton_kernels.load_rotated, triton.attention_forward_kernel
    with changed_module("attention.triton_rotary", lambda text: text.replace("D // 2", "D // 4")):
        assert triton_kernels.load_rotated is not before[0]
        assert triton_kernels.load_rotated is triton_rotary.load_rotated
    assert before == (triton_kernels.load_rotated, triton.attention_forward_kernel)


def test_a_fault_that_finds_no_place_is_an_error() -> None:
    fault = Fault("", "attention", "sm_90", "some_kernel", r"bar\.sync", nth=1)
    assert fault.edit(".entry other_kernel() bar.sync") == ".entry other_kernel() bar.sync"
    with pytest.raises(ValueError, match="holds 'bar"):
        fault.edit(".entry some_kernel() bar.sync 0;")
