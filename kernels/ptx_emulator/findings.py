"""What the emulator finds wrong with a launch."""

from dataclasses import dataclass, field

from ptx_emulator.parser import Instruction


@dataclass(frozen=True)
class Finding:
    """Something that a kernel must not do, at the first place where it did."""

    kind: str
    """One of KINDS."""
    kernel: str
    source: str
    """file:line of the kernel's source, or ""."""
    block: tuple[int, int, int]
    warp: int
    address: str
    """What was touched: a tensor's byte, a byte of shared memory, or a register."""
    instruction: str

    def __str__(self) -> str:
        place = f" at {self.source}" if self.source else ""
        return (
            f"{self.kind}: {self.kernel}{place}, block {self.block}, warp {self.warp}, "
            f"{self.address} [{self.instruction}]"
        )


KINDS = {
    "out of bounds": "a global access outside the tensors that were passed",
    "misaligned": "an address that is no multiple of the access's size",
    "shared out of bounds": "an access outside the kernel's shared memory",
    "uninitialised": "a read of shared memory that nobody wrote",
    "race": "two warps touch a byte of shared memory, one writes it, and no barrier is between",
    "proxy": "wgmma reads what was written without fence.proxy.async",
    "in flight": "use of what cp.async or wgmma still reads or writes",
    "blocks": "two blocks touch the same global byte and one writes it",
    "barrier": "a barrier that a part of the block does not reach",
    "warp": "an instruction of the whole warp that a part of it does not reach",
}


class EmulationError(RuntimeError):
    """A launch with findings; the message lists them."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = findings


@dataclass
class Findings:
    """The findings of one launch, one for each kind and instruction."""

    kernel: str
    found: dict[tuple[str, int], Finding] = field(default_factory=dict)

    def add(
        self,
        kind: str,
        instruction: Instruction,
        block: tuple[int, int, int],
        warp: int,
        address: str,
    ) -> None:
        """Keep the first finding of this kind at this instruction."""
        assert kind in KINDS, kind
        finding = Finding(
            kind, self.kernel, instruction.source, block, warp, address, instruction.text
        )
        self.found.setdefault((kind, instruction.number), finding)
