"""What a run prints."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from tqdm import tqdm

logger = logging.getLogger("slim_fast")
"""What runs report of their progress, at level INFO."""


class _StdoutHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), flush=True)


@contextmanager
def progress_shown() -> Iterator[None]:
    """Show `logger` on stdout, and the monitor on stderr; without it runs are silent."""
    handler, before = _StdoutHandler(), (logger.level, logger.propagate, logger.disabled)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a user's own handlers would show it twice
    logger.disabled = False  # logging.config silences all loggers that it does not name
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate, logger.disabled = before[1:]


def show_batches(batches: Sequence[int]) -> Iterable[int]:
    """The batches, behind a progress bar while progress is shown on a terminal."""
    is_shown = logger.isEnabledFor(logging.INFO)
    return tqdm(batches, unit="batch", leave=False, disable=None if is_shown else True)
