"""What a run shows: a bar on a terminal, a line now and then elsewhere; metrics; TensorBoard when
it is there.
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from slim_fast.training import monitor
from slim_fast.training.monitor import Monitor, drop_records_after, read_metrics


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The monitor's time, moved by hand."""
    hand = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(monitor, "time", SimpleNamespace(perf_counter=lambda: hand.now))
    return hand


@pytest.fixture(autouse=True)
def _no_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)


def test_lines_where_there_is_no_terminal(
    tmp_path: Path, clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Monitor(tmp_path, 0, 1000, batch=4)
    for step in range(1, 301):
        clock.now += 0.1
        shown.advance()
        if step % 10 == 0:
            shown.show_progress(step, shown.rate(), {"loss": 2.5, "lr": 0.001})
    shown.print_line("step 300: 1-NN accuracy 50.0%")
    shown.close()
    output, error = capsys.readouterr()
    assert output == ""
    lines = error.splitlines()
    assert lines == [
        "step 10/1000: 40 samples/s, loss 2.5, lr 0.001, 0:01:39 left",
        "step 160/1000: 40 samples/s, loss 2.5, lr 0.001, 0:01:24 left",
        "step 300: 1-NN accuracy 50.0%",
    ]


def test_bar_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    shown = Monitor(tmp_path, 3, 10, batch=4)
    for step in range(4, 11):
        shown.advance()
        shown.show_progress(step, 12.0, {"loss": 2.5})
    shown.print_line("a line")
    shown.close()
    text = terminal.getvalue()
    assert "10/10" in text
    assert "12 samples/s, loss 2.5" in text
    assert "a line\n" in text
    assert "left" not in text


def test_rate_counts_only_the_steps(tmp_path: Path, clock: SimpleNamespace) -> None:
    shown = Monitor(tmp_path, 0, 100, batch=8)
    for _ in range(5):
        clock.now += 0.5
        shown.advance()
    assert shown.rate() == pytest.approx(16)
    clock.now += 100  # an evaluation
    shown.restart_clock()
    clock.now += 1
    shown.advance()
    assert shown.rate() == pytest.approx(8)
    shown.close()


def test_records_are_on_disk_at_once(tmp_path: Path) -> None:
    shown = Monitor(tmp_path, 0, 10, batch=1)
    shown.write(1, {"loss": 0.1 + 0.2})
    shown.write(2, {"loss": 1e-30})
    records = read_metrics(tmp_path / "metrics.jsonl")
    shown.close()
    assert records == [{"step": 1, "loss": 0.1 + 0.2}, {"step": 2, "loss": 1e-30}]


def test_records_after_the_checkpoint_go(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(
        '{"step": 1}\n{"step": 2, "knn_top1": 0.5}\n{"step": 2}\n{"step": 3}\n{"step": 4, "los'
    )
    drop_records_after(file, 2)
    assert file.read_text() == '{"step": 1}\n{"step": 2, "knn_top1": 0.5}\n{"step": 2}\n'
    assert list(tmp_path.iterdir()) == [file]


def test_without_tensorboard(tmp_path: Path) -> None:
    shown = Monitor(tmp_path, 0, 10, batch=1)
    shown.write(1, {"loss": 1.0})
    shown.close()
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_with_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            calls.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            calls.append((name, value, step))

        def close(self) -> None:
            calls.append("closed")

    package, writer = (
        ModuleType("torch.utils.tensorboard"),
        ModuleType("torch.utils.tensorboard.writer"),
    )
    package.__path__ = []  # type: ignore[attr-defined]
    writer.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", package)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", writer)
    shown = Monitor(tmp_path, 4, 10, batch=1)
    shown.write(5, {"loss": 1.0, "koleo": 2.0})
    shown.close()
    assert calls == [
        (str(tmp_path / "tensorboard"), 4),
        ("loss", 1.0, 5),
        ("koleo", 2.0, 5),
        "closed",
    ]


def test_whole_run_writes_no_flood(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    error = capsys.readouterr().err
    assert "\r" not in error
    lines = error.splitlines()
    assert [line.split(":")[0] for line in lines if "accuracy" in line] == ["step 4", "step 8"]
    assert len(lines) < 8
    assert "samples/s" in lines[0]
    assert all(
        word in lines[0]
        for word in ("step 1/8", "loss", "contrastive", "masked", "koleo", "lr", "left")
    )
