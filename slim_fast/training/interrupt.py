"""Ctrl-C, SIGTERM and a dropped connection end a run after the current step."""

import signal
import threading
from types import FrameType
from typing import Any

from slim_fast.command import stop_signals

HANGUP = getattr(signal, "SIGHUP", None)  # the terminal or connection is gone; not on Windows


class Interrupt:
    """Context manager: `requested` is the first signal that arrived, if any. A second one of the
    others ends the process at once; a hang-up does not, because kernel and shell both send
    it.
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            self._before = {number: signal.signal(number, self._note) for number in stop_signals()}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore(list(self._before))

    def _note(self, number: int, _: FrameType | None) -> None:
        self.requested = self.requested or signal.Signals(number)
        if number != HANGUP:
            self._restore([other for other in self._before if other != HANGUP])

    def _restore(self, numbers: list[signal.Signals]) -> None:
        for number in numbers:
            signal.signal(number, self._before.pop(number))
