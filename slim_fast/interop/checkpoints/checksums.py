"""Checksums of weights: against a SHA256SUMS beside them, or what the hub said of each file."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slim_fast.errors import UserError, describe_os_error
from slim_fast.interop.checkpoints.model_card import CARD
from slim_fast.writing import write_atomically

SUMS = "SHA256SUMS"
"""Lines of `sha256sum`, which also checks them: `sha256sum -c SHA256SUMS`."""
_CHUNK = 1 << 24  # bytes read at a time
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


@dataclass(frozen=True)
class Verdict:
    """What is known of a file: `name` is its path below the folder."""

    name: str
    state: Literal["as recorded", "differs", "missing", "not recorded"]


def list_files(folder: Path) -> list[Path]:
    """What a manifest covers: every file but hidden ones, itself and the card, a text to edit."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    inside = (path.relative_to(folder) for path in files)
    kept = [path for path in inside if path.name not in (SUMS, CARD)]
    return [path for path in kept if not any(part.startswith((".", "__")) for part in path.parts)]


def write_manifest(folder: Path) -> Path:
    """Write SHA256SUMS of a folder's files. Raises: UserError when there are none."""
    files = list_files(folder)
    if not files:
        raise UserError(f"{folder} holds no files to make a manifest of.")
    path = folder / SUMS
    try:
        lines = [f"{hash_file(folder / name)}  {name.as_posix()}\n" for name in files]
        write_atomically(path, lambda file: file.write("".join(lines).encode()))
    except OSError as error:
        raise UserError(f"{describe_os_error(error)}: mend that and try again.") from error
    return path


def read_manifest(path: Path) -> dict[str, str]:
    """File -> its SHA-256. Raises: UserError for a file that is no such list."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = describe_os_error(error) if isinstance(error, OSError) else f"{path}: no text"
        raise UserError(f"{why}: name a file of checksums, as sha256sum writes them.") from error
    matches = [_LINE.fullmatch(line) for line in lines if line.strip()]
    if not matches or None in matches:
        raise UserError(f"{path} is no list of SHA-256 checksums, as sha256sum writes them.")
    return {match[2]: match[1] for match in matches if match}


def verify_folder(folder: Path, manifest: Path | None = None) -> list[Verdict]:
    """Compare every file of a folder with a manifest, by default its own SHA256SUMS.

    A file of Hugging Face's cache that no manifest names is compared with the checksum under which
    it was downloaded. A file that is in no record at all is "not recorded".
    Raises: UserError when nothing is recorded, or a file cannot be read.
    """
    own = folder / SUMS
    recorded = read_manifest(manifest or own) if manifest or own.exists() else {}
    names = dict.fromkeys([*recorded, *(name.as_posix() for name in list_files(folder))])
    try:
        verdicts = [_judge(folder, name, recorded.get(name)) for name in names]
    except OSError as error:
        raise UserError(f"{describe_os_error(error)}: mend that and try again.") from error
    if all(verdict.state == "not recorded" for verdict in verdicts):
        raise UserError(
            f"No checksums are known of {folder}: it has no {SUMS} and is no download of Hugging "
            "Face's; give --manifest FILE."
        )
    return verdicts


def _judge(folder: Path, name: str, expected: str | None) -> Verdict:
    path = folder / name
    if not path.is_file():
        return Verdict(name, "missing")
    if expected is None:
        expected = _downloaded_as(path)
        if expected is None:
            return Verdict(name, "not recorded")
    actual = hash_file(path) if len(expected) == 64 else hash_as_git(path)
    return Verdict(name, "as recorded" if actual == expected else "differs")


def _downloaded_as(path: Path) -> str | None:
    """The hub's checksum of a file in its client's cache, which names the file by it."""
    real = path.resolve()
    is_blob = real.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", real.name)
    return real.name if path.is_symlink() and is_blob else None


def hash_file(path: Path) -> str:
    """SHA-256, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def hash_as_git(path: Path) -> str:
    """git's SHA-1 of a file, by which the hub calls those that are small."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
