"""Every instruction as a function of the machine."""

from functools import lru_cache

from ptx_emulator import (
    arithmetic,
    bit_operations,
    memory_steps,
    synchronization,
    tensor_cores,
    warp_steps,
)
from ptx_emulator.machine import Builder, Machine, Step
from ptx_emulator.parser import Instruction, Program, PTXError

BUILDERS: dict[str, Builder] = {
    **arithmetic.BUILDERS,
    **bit_operations.BUILDERS,
    **synchronization.BUILDERS,
    **memory_steps.BUILDERS,
    **warp_steps.BUILDERS,
    **tensor_cores.BUILDERS,
}


@lru_cache(maxsize=256)
def steps(program: Program) -> tuple[Step | None, ...]:
    """Each instruction as a function of the machine; None: a branch.

    Raises:
        PTXError: an instruction or a label that is not known, named.
    """
    return tuple(_step(program, instruction) for instruction in program.instructions)


def _step(program: Program, instruction: Instruction) -> Step | None:
    try:
        if instruction.name == "bra":
            program.labels[instruction.operands[-1].name]  # type: ignore[union-attr]
        if instruction.name in ("bra", "ret", "exit"):
            return None
        step = BUILDERS[instruction.name](instruction)
    except PTXError:
        raise
    except (LookupError, ValueError, AssertionError) as error:
        raise PTXError(f"The emulator does not know {instruction.text!r}.") from error
    if not program.has_warpgroups:
        return step

    def tracked(m: Machine) -> None:
        tensor_cores.track_registers(m, instruction)
        step(m)

    return tracked
