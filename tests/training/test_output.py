"""A run goes on when nobody hears it any more."""

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slim_fast.command import PipeSafeStream, pipe_safe_output
from slim_fast.training.output import logger, progress_shown


def test_run_whose_reader_leaves(
    arguments: Callable[..., list[str]],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Callable[[Path], dict[str, Any]],
    same: Callable[[Any, Any], bool],
) -> None:
    command = [sys.executable, "-m", "slim_fast.pretrain", *arguments()]
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(command, stdout=writing, stderr=writing)
    os.close(writing)
    assert process.wait(60) == 0
    assert same(outcome(tmp_path / "run"), uninterrupted)


def test_progress_is_shown_though_another_library_disabled_all_loggers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # what logging.config does to the loggers that it does not name
    monkeypatch.setattr(logger, "disabled", True)
    with progress_shown():
        logger.info("step 1")
    assert capsys.readouterr().out == "step 1\n"
    assert logger.disabled


def test_full_disk_loses_words_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        full = True  # while it is

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(text)

    stream = Full()
    monkeypatch.setattr(sys, "stderr", stream)
    with pipe_safe_output():
        print("lost", file=sys.stderr)
        stream.full = False
        print("said", file=sys.stderr)
        assert isinstance(sys.stderr, PipeSafeStream)
    assert sys.stderr is stream
    assert stream.getvalue() == "said\n"
