"""A small encoder, and fewer programs to compile."""

from collections.abc import Iterator

import pytest

from slim_fast import SLiMEncoder
from slim_fast.interop.runtimes import check
from tests.interop.runtimes.small import made


@pytest.fixture(scope="module", autouse=True)
def fewer_shapes(thorough: bool) -> Iterator[None]:
    """Each number of frames is compiled anew."""
    with pytest.MonkeyPatch.context() as patch:
        if not thorough:
            patch.setattr(check, "_SHAPES", check._SHAPES[1:2])
        yield


@pytest.fixture(scope="module")
def encoder() -> SLiMEncoder:
    return made(SLiMEncoder, 5)
