"""What a run shows and writes down while it goes on."""

import json
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

from slim_fast.reading import parse_json
from slim_fast.training.trackers import Tracker
from slim_fast.writing import write_atomically

PLAIN_SECONDS = (10.0, 600.0)  # from one line to the next, at first and at most
GROWTH = 1.5


class Monitor:
    """Progress bar or, without a terminal, lines ever more rarely; metrics.jsonl; TensorBoard,
    and a tracker if there is one.
    """

    def __init__(
        self,
        folder: Path,
        first_step: int,
        steps: int,
        batch: int,
        quiet: bool = False,
        tracker: Tracker | None = None,
    ) -> None:
        self._path, self._batch, self._steps = folder / "metrics.jsonl", batch, steps
        drop_records_after(self._path, first_step)
        self._file = self._path.open("a", encoding="utf-8")
        self._bar = tqdm(
            total=steps,
            initial=first_step,
            unit="step",
            dynamic_ncols=True,
            mininterval=0.5,
            disable=True if quiet else None,  # None: without a terminal
        )
        self._quiet, self._tracker = quiet, tracker
        self._shown, self._pause = -PLAIN_SECONDS[0], PLAIN_SECONDS[0]
        self._board: Any = None
        with suppress(ImportError):  # tensorboard is not installed, or too old
            from torch.utils.tensorboard.writer import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)
        self._since, self._seen = time.perf_counter(), 0

    def advance(self) -> None:
        """One more step is done."""
        self._seen += 1
        self._bar.update()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append `values` of `step` to metrics.jsonl, TensorBoard and the tracker."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        if self._tracker is not None:
            self._tracker.log(step, values)

    def rate(self) -> float:
        """Samples a second since the last call."""
        now = time.perf_counter()
        rate = self._seen * self._batch / max(now - self._since, 1e-9)
        self._since, self._seen = now, 0
        return rate

    def restart_clock(self) -> None:
        """Leave out what happened since the last `rate` (an evaluation, a checkpoint)."""
        self._since, self._seen = time.perf_counter(), 0

    def show_progress(self, step: int, rate: float, values: dict[str, float]) -> None:
        """Show samples a second and `values`: behind the bar, or as a line when one is due."""
        numbers = ", ".join(
            [f"{rate:.4g} samples/s", *(f"{name} {value:.4g}" for name, value in values.items())]
        )
        now = time.perf_counter()
        if not self._bar.disable:
            self._bar.set_postfix_str(numbers, refresh=False)
        elif now - self._shown >= self._pause:
            left = timedelta(seconds=round((self._steps - step) * self._batch / rate))
            self.print_line(f"step {step}/{self._steps}: {numbers}, {left} left")
            self._shown, self._pause = now, min(GROWTH * self._pause, PLAIN_SECONDS[1])

    def print_line(self, line: str) -> None:
        """A line on stderr, above the progress bar if there is one."""
        if not self._quiet:
            tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()
        self._file.close()
        if self._board is not None:
            self._board.close()
        if self._tracker is not None:
            self._tracker.close()


class NoMonitor:
    """Of the processes whose progress is another one's too: shows and writes nothing."""

    def advance(self) -> None: ...

    def restart_clock(self) -> None: ...

    def print_line(self, line: str) -> None: ...

    def close(self) -> None: ...


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, without lines that are none, such as a last one cut off."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError):
            record = parse_json(line)
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                records.append(record)
    return records


def drop_records_after(path: Path, step: int) -> None:
    """Drop the records after `step`, the checkpoint from which the run continues."""
    records = [record for record in read_metrics(path) if record["step"] <= step]
    text = "".join(json.dumps(record) + "\n" for record in records)
    write_atomically(path, lambda file: file.write(text.encode()))
