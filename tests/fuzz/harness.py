"""Reads malformed files in processes of their own, and says what came out but a UserError."""

import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from slim_fast.errors import UserError
from tests.fuzz.mutations import mutate
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

SECONDS = 20
"""Of the processor's time that an input may take."""
BYTES = 4 << 30
"""Of address space that reading may take, beside what is taken already."""
CHUNK = 500
_EVENTS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen")


class Hang(BaseException):
    """An input took longer than it may."""


@dataclass(frozen=True)
class Finding:
    """An input that was not read as it should be: `number` and the seed draw it again."""

    number: int
    what: str
    where: str
    """The same for findings that are alike."""


def fuzz(name: str, first: int, count: int, seed: int) -> tuple[list[Finding], int]:
    """Inputs first, first + 1, ... of a target; what came out, and how many were refused by a
    UserError.
    """
    findings, refused, begin = [], 0, first
    while begin < first + count:
        end = min(begin + CHUNK, first + count)
        with tempfile.TemporaryDirectory() as folder:
            read = partial(_read_all, name, range(begin, end), seed, Path(folder))
            lines, how = in_a_process(read)
        refused += sum("refused" in line for line in lines)
        findings += find(lines)
        done = max((line["number"] for line in lines), default=begin - 1) + 1
        if done < end:  # the process has ended over an input
            findings.append(Finding(done, how, how))
            done += 1
        begin = done
    return findings, refused


def find(lines: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """The findings in what was reported."""
    return [
        Finding(line["number"], line["what"], line.get("where", line["what"]))
        for line in lines
        if "what" in line
    ]


Report = Callable[..., None]


def in_a_process(read: Callable[[Report], None]) -> tuple[list[dict[str, Any]], str]:
    """What read(report) reported, by keywords, in a process of its own; how that ended if not by
    itself.
    """
    with tempfile.TemporaryFile("w+") as file:

        def report(**outcome: Any) -> None:
            file.write(json.dumps(outcome) + "\n")
            file.flush()

        process = os.fork()
        if not process:
            try:
                read(report)
            except BaseException:
                report(number=sys.maxsize, what=traceback.format_exc())
            finally:
                os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        file.seek(0)
        lines = [json.loads(line) for line in file]
    how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
    return lines, f"the process ended {how}" if status else ""


def _read_all(name: str, numbers: range, seed: int, folder: Path, report: Report) -> None:
    reading = Reading(TARGETS[name], folder)
    outcome = reading.read(reading.good)
    if outcome:  # else nothing would be learned from malformed ones
        report(number=numbers[0], what=f"good files: {outcome}")
    for number in numbers:
        draw, files = random.Random(f"{seed} {name} {number}"), dict(reading.good)
        for path in draw.sample(list(files), min(len(files), draw.choice([1, 1, 1, 2]))):
            files[path] = mutate(files[path], draw)
        report(number=number, **reading.read(files))


class Reading:
    """Lets a target read files in folder/in; from then on the process is silent, and limited in
    its memory.
    """

    def __init__(self, target: Target, folder: Path) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):  # of C libraries too
            os.dup2(nowhere, stream)
        faulthandler.disable()  # pytest's writes to a stream of its own
        warnings.simplefilter("ignore")
        self._target, self._folder, self._place = target, folder, folder / "in"
        self._place.mkdir()
        target.write(self._place)
        files = sorted(file for file in self._place.rglob("*") if file.is_file())
        self.good = {str(file.relative_to(self._place)): file.read_bytes() for file in files}
        """Content by path."""
        self._ran: list[str] = []
        sys.addaudithook(lambda event, _: self._ran.append(event) if event in _EVENTS else None)
        signal.signal(signal.SIGPROF, _raise_hang)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + BYTES, taken + BYTES))

    def read(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """{}, {"refused": sentence} or {"what": what else came out} of files by their paths."""
        shutil.rmtree(self._place, ignore_errors=True)
        for path, content in files.items():
            (self._place / path).parent.mkdir(parents=True, exist_ok=True)
            (self._place / path).write_bytes(content)
        self._ran.clear()
        outcome = self._read()
        if self._ran or list(self._folder.rglob("PROOF")) or Path("PROOF").exists():
            return {"what": f"code of the file was run: {self._ran}"}
        return outcome

    def _read(self) -> dict[str, str]:
        try:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            # ends the process where Python does not come to raise Hang
            signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)
            self._target.read(self._place)
        except UserError as error:
            return {"refused": str(error)} if str(error) else {"what": "a UserError without words"}
        except Hang:
            return {"what": f"no end after {SECONDS} s"}
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in frames if "slim_fast" in Path(frame.filename).parts]
            last = (ours or frames)[-1]
            where = f"{type(error).__name__} at {last.filename}:{last.lineno}"
            return {"what": traceback.format_exc(limit=-4), "where": where}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        return {}


def _raise_hang(_: int, __: FrameType | None) -> None:
    raise Hang
