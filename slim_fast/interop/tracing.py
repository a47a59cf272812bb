"""What everything that traces modules for other runtimes needs: silence, and other packages."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from slim_fast.errors import UserError


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, logs and prints of the exporters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def import_package(name: str, extra: str, purpose: str) -> Any:
    """Import a package that an extra installs. Raises: UserError with the command that does."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f'{purpose} needs {name}: pip install "slim_fast[{extra}]".') from error
