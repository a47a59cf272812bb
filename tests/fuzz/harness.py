"""Reads malformed files in processes of their own, and says what came out but a UserError."""

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
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from slim_fast.errors import UserError
from tests.fuzz.mutations import mutate
from tests.fuzz.targets import TARGETS, Target

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

    target: str
    number: int
    what: str


def fuzz(name: str, first: int, count: int, seed: int) -> tuple[list[Finding], int]:
    """Inputs first, first + 1, ... of a target; what came out, and how many were refused by a
    UserError.
    """
    findings, refused, begin = [], 0, first
    while begin < first + count:
        end = min(begin + CHUNK, first + count)
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report")
            process = os.fork()
            if not process:
                try:
                    _read_all(name, range(begin, end), seed, Path(folder), report)
                finally:
                    os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            lines = [json.loads(line) for line in report.read_text().splitlines()]
        refused += sum("refused" in line for line in lines)
        findings += [Finding(name, x["number"], x["what"]) for x in lines if "what" in x]
        done = max((line["number"] for line in lines), default=begin - 1) + 1
        if done < end:  # the process has ended over an input
            findings.append(Finding(name, done, f"the process ended with {status}"))
            done += 1
        begin = done
    return findings, refused


def _read_all(name: str, numbers: range, seed: int, folder: Path, report: Path) -> None:
    target, good = TARGETS[name], folder / "good"
    good.mkdir()
    target.write(good)
    signal.signal(signal.SIGPROF, _raise_hang)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + BYTES, taken + BYTES))
    ran: list[str] = []
    sys.addaudithook(lambda event, _: ran.append(event) if event in _EVENTS else None)
    with report.open("w", buffering=1) as file:
        outcome = read_one(target, good, folder, None)
        if outcome:  # else nothing would be learned from malformed ones
            file.write(json.dumps({"number": numbers[0], "what": f"good files: {outcome}"}) + "\n")
        for number in numbers:
            ran.clear()
            outcome = read_one(target, good, folder, random.Random(f"{seed} {name} {number}"))
            if ran or list(folder.rglob("PROOF")) or Path("PROOF").exists():
                outcome = {"what": f"code of the file was run: {ran}"}
            file.write(json.dumps({"number": number, **outcome}) + "\n")


def read_one(
    target: Target, good: Path, folder: Path, draw: random.Random | None
) -> dict[str, Any]:
    """{}, {"refused": sentence} or {"what": what else came out} of one malformed copy of `good`;
    draw None: of a copy as it is.
    """
    place = folder / "in"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(good, place)
    files = sorted(file for file in place.rglob("*") if file.is_file())
    if draw is not None:
        for file in draw.sample(files, min(len(files), draw.choice([1, 1, 1, 2]))):
            file.write_bytes(mutate(file.read_bytes(), draw))
    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        with (
            Path(os.devnull).open("w") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            target.read(place)
    except UserError as error:
        return {"refused": str(error)} if str(error) else {"what": "a UserError without words"}
    except Hang:
        return {"what": f"no end after {SECONDS} s"}
    except BaseException:
        return {"what": traceback.format_exc(limit=-4)}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return {}


def _raise_hang(_: int, __: FrameType | None) -> None:
    raise Hang
