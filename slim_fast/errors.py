"""Errors a user can mend: one sentence naming the thing and the remedy."""

import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class UserError(ValueError):
    """Bad input: a file, a value, a name. Commands print its sentence and exit with status 2."""


class SaidElsewhere(UserError):
    """Ends a process of a run whose error another one has reported: exit status 2, no words."""


def describe_os_error(error: OSError) -> str:
    """The file of a failed call and what is wrong with it."""
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}"


def suggest(word: str, known: Iterable[str]) -> str:
    """ " (did you mean X?)" with the known word X nearest to a misspelt one, or ""."""
    nearest = get_close_matches(word, list(known), 1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""


def program_name(command: str) -> str:
    """The command as the process was started: by the console command, or as a module."""
    is_console = bool(sys.argv) and Path(sys.argv[0]).stem == "slim-fast"
    return f"slim-fast {command}" if is_console else f"python -m slim_fast.{command}"
