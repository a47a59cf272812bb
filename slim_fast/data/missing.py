"""The published list of NTU recordings whose skeletons are missing or incomplete."""

import re
from pathlib import Path

from slim_fast.data.readers.ntu import NAME
from slim_fast.errors import UserError, describe_os_error

REASON = "on the list of missing skeletons"


def read_missing(path: Path) -> frozenset[str]:
    """The NTU names, in capitals, in a text file; other words in it do not matter.

    Raises: UserError when the file cannot be read or has no such name.
    """
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise UserError(f"--missing {describe_os_error(error)}: give the published list") from error
    names = frozenset(match[0].upper() for match in re.finditer(NAME, text))
    if not names:
        raise UserError(
            f"--missing {path} has no NTU name such as S001C002P005R002A008: give the published "
            "list of missing skeletons"
        )
    return names


def is_missing(name: str, missing: frozenset[str]) -> bool:
    """Whether a clip's name is that of a recording on the list."""
    match = NAME.search(name) if missing else None
    return match is not None and match[0].upper() in missing
