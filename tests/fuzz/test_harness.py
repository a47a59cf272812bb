"""What counts as a finding, and that none ends the search."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from slim_fast.errors import UserError
from tests.fuzz import harness
from tests.fuzz.harness import fuzz
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

BAD = 3
"""The number of the input over which a target does something else than to refuse it."""


def crash(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def fail(_: Path) -> None:
    raise KeyError("a")


def hang(_: Path) -> None:
    while True:
        time.process_time()


def wait(_: Path) -> None:
    time.sleep(60)


def run_code(_: Path) -> None:
    subprocess.run(["true"])


def make_folder(folder: Path) -> None:
    (folder / "PROOF").mkdir()


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (crash, "the process ended by SIGSEGV"),
        (fail, "KeyError: 'a'"),
        (hang, "no end after 0.2 s"),
        (wait, "the process ended by SIGALRM"),
        (run_code, "code of the file was run: ['subprocess.Popen'"),
        (make_folder, "code of the file was run"),
    ],
)
def test_a_finding_has_its_number_and_the_others_are_read(
    act: object, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "SECONDS", 0.2)
    read = []

    def read_one(folder: Path) -> None:
        read.append(folder)
        if len(read) == BAD + 2:  # the good files come first
            act(folder)  # type: ignore[operator]
        if len(read) > 1:
            raise UserError("refused")

    monkeypatch.setitem(
        TARGETS, "one", Target(lambda folder: (folder / "a").write_bytes(b"abc"), read_one)
    )
    findings, refused = fuzz("one", 0, 2 * BAD, 0)
    assert [finding.number for finding in findings] == [BAD]
    assert says in findings[0].what
    assert refused == 2 * BAD - 1
