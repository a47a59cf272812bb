"""All seeded faults."""

from tests.ptx_emulator.ptx_faults import PTX_FAULTS
from tests.ptx_emulator.source_faults import SOURCE_FAULTS

FAULTS = [*SOURCE_FAULTS, *PTX_FAULTS]
