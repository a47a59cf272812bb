"""What asks a process to stop ends the run after its step, and never damages it."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slim_fast.training.interrupt import Interrupt
from tests.training.processes import wait_for

Outcome = Callable[[Path], dict[str, Any]]


Same = Callable[[Any, Any], bool]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_to_a_process(
    number: signal.Signals,
    start: Callable[..., "subprocess.Popen[str]"],
    run: Callable[..., int],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Outcome,
    same: Same,
) -> None:
    process = start(hold=4)
    wait_for(tmp_path / "holding", process)
    process.send_signal(number)
    (tmp_path / "go").touch()
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    saved = tmp_path / "run" / "checkpoints" / "step-00000005.pt"  # the step under way was finished
    assert error.splitlines()[-1] == (
        f"Stopped by {number.name} after step 5; {saved} is saved. The same command resumes the "
        "run."
    )
    assert "Traceback" not in error
    assert run() == 0
    assert same(outcome(tmp_path / "run"), uninterrupted)


def test_connection_that_drops(
    arguments: Callable[..., list[str]],
    run: Callable[..., int],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Outcome,
    same: Same,
) -> None:
    """The terminal closes: the hang-up comes, then every word that is said fails; and the shell
    sends another one.
    """
    held = f"""
import runpy, sys, time
from pathlib import Path
from slim_fast.training.monitor import Monitor
from slim_fast.training.trainer import Trainer
sys.argv = {["pretrain", *arguments()]!r}
step = Trainer.step
def step_(self, number):
    if number == 4:
        Path({str(tmp_path / "holding")!r}).touch()
        while not Path({str(tmp_path / "go")!r}).exists():
            time.sleep(0.01)
    return step(self, number)
Trainer.step = step_
advance = Monitor.advance
def advance_(self):
    advance(self)
    self.print_line("one more step")
Monitor.advance = advance_
runpy.run_module("slim_fast.pretrain", run_name="__main__")
"""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-c", held])
    limit = time.monotonic() + 60
    while not (tmp_path / "holding").exists():
        assert time.monotonic() < limit
        if select.select([terminal], [], [], 0.01)[0]:
            os.read(terminal, 10_000)
    os.close(terminal)
    time.sleep(0.05)
    os.kill(process, signal.SIGHUP)
    (tmp_path / "go").touch()
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 128 + signal.SIGHUP
    # the step under way was finished
    assert (tmp_path / "run" / "checkpoints" / "step-00000005.pt").exists()
    assert run() == 0
    assert same(outcome(tmp_path / "run"), uninterrupted)


def test_hang_up_that_the_parent_ignores(
    start: Callable[..., "subprocess.Popen[str]"],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Outcome,
    same: Same,
) -> None:
    # as nohup does
    process = start("import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)", hold=4)
    wait_for(tmp_path / "holding", process)
    process.send_signal(signal.SIGHUP)
    (tmp_path / "go").touch()
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 0, error
    assert same(outcome(tmp_path / "run"), uninterrupted)


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGHUP, marks=pytest.mark.long), signal.SIGTERM]
)
def test_signal_during_the_plots(
    number: signal.Signals,
    start: Callable[..., "subprocess.Popen[str]"],
    run: Callable[..., int],
    tmp_path: Path,
    uninterrupted: dict[str, Any],
    outcome: Outcome,
    same: Same,
) -> None:
    code = """
from slim_fast.training import summary
def draw(*arguments):
    print("drawing", flush=True)
    time.sleep(30)
summary.draw = draw
"""
    process = start(code, log__plots=True)
    assert process.stdout is not None
    assert "Evaluating the encoder" in process.stdout.readline()
    assert process.stdout.readline() == "drawing\n"
    process.send_signal(number)
    error = process.communicate(timeout=20)[1]
    assert process.returncode == 128 + number
    assert error.splitlines()[-1].startswith(f"Stopped by {number.name}. The same command resumes")
    assert not (tmp_path / "run" / "summary.json").exists()
    assert run() == 0
    assert same(outcome(tmp_path / "run"), uninterrupted)


def test_sigterm_before_the_first_step(
    start: Callable[..., "subprocess.Popen[str]"], run: Callable[..., int]
) -> None:
    code = """
from slim_fast.training import run
opened = run.open_data
def slow(*arguments):
    print("reading", flush=True)
    time.sleep(30)
    return opened(*arguments)
run.open_data = slow
"""
    process = start(code)
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    process.terminate()
    error = process.communicate(timeout=20)[1]
    assert process.returncode == 143
    assert error.splitlines() == [
        "Stopped by SIGTERM. The same command resumes from the last checkpoint, if one was written."
    ]
    assert run() == 0


def test_second_signal_ends_at_once() -> None:
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.requested == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with Interrupt() as interrupt:
        assert interrupt.requested is None
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.fixture
def hang_ups_not_ignored() -> Iterator[None]:
    """As they are where nohup has not started the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hang_ups_not_ignored")
def test_hang_ups_only_ask() -> None:
    """Kernel and shell both send one; and a session that ends may send SIGTERM first."""
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.requested == signal.SIGHUP
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
