"""What a run shows and writes down while it goes on."""

import json
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

PLAIN_SECONDS = 10.0


class Monitor:
    """Progress bar on a terminal, elsewhere a line now and then; metrics.jsonl; TensorBoard events if installed."""

    def __init__(self, folder: Path, first_step: int, steps: int, batch: int) -> None:
        self._path, self._batch, self._steps = folder / "metrics.jsonl", batch, steps
        forget_after(self._path, first_step)
        self._file = self._path.open("a", encoding="utf-8")
        self._bar = tqdm(
            total=steps, initial=first_step, unit="step", dynamic_ncols=True, mininterval=0.5, disable=None
        )
        self._shown = -PLAIN_SECONDS
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
        """Record `values` of `step`, with the samples a second since the last record of that kind."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def rate(self) -> float:
        """Samples a second since the last call."""
        now = time.perf_counter()
        rate = self._seen * self._batch / max(now - self._since, 1e-9)
        self._since, self._seen = now, 0
        return rate

    def restart_clock(self) -> None:
        """Leave out what happened since the last `rate` (an evaluation, a checkpoint)."""
        self._since, self._seen = time.perf_counter(), 0

    def show(self, step: int, rate: float, values: dict[str, float]) -> None:
        """Samples a second and `values`: behind the progress bar, or as a line when it is time for one."""
        numbers = ", ".join([f"{rate:.4g} samples/s", *(f"{name} {value:.4g}" for name, value in values.items())])
        now = time.perf_counter()
        if not self._bar.disable:
            self._bar.set_postfix_str(numbers, refresh=False)
        elif now - self._shown >= PLAIN_SECONDS:
            left = timedelta(seconds=round((self._steps - step) * self._batch / rate))
            self.say(f"step {step}/{self._steps}: {numbers}, {left} left")
            self._shown = now

    def say(self, line: str) -> None:
        """A line on stderr, above the progress bar if there is one."""
        tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, without a last line that was cut off."""
    if not path.exists():
        return []
    return list(_records(path.read_text(encoding="utf-8").splitlines()))


def _records(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def forget_after(path: Path, step: int) -> None:
    """Drop the records beyond `step`: they were written after the checkpoint that the run continues from."""
    kept = [record for record in read_metrics(path) if record["step"] <= step]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    temporary.replace(path)
