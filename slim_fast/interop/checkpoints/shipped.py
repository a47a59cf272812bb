"""Encoders that come with the package, trained on generated clips: no licence but the package's."""

from importlib import resources
from pathlib import Path

from slim_fast.errors import UserError, suggest
from slim_fast.model.files import CONFIG

OWNER = "slim_fast/"


def find_shipped() -> dict[str, Path]:
    """The shipped encoders: name, with the owner -> folder."""
    folder = Path(str(resources.files("slim_fast"))) / "weights"
    return {OWNER + path.parent.name: path.parent for path in sorted(folder.glob(f"*/{CONFIG}"))}


def shipped_folder(source: str) -> Path | None:
    """The folder of a shipped encoder; None for a name of another owner.

    Raises: UserError when none of that name is shipped.
    """
    if not source.startswith(OWNER):
        return None
    shipped = find_shipped()
    if source not in shipped:
        raise UserError(
            f"No encoder {source!r} comes with slim_fast{suggest(source, shipped)}; choose one of "
            f"{', '.join(shipped)}."
        )
    return shipped[source]
