"""Malformed files that atheris looks for: whatever reaches new lines of slim_fast is changed on."""

import os
import random
import shutil
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from types import ModuleType
from typing import NoReturn

from tests.fuzz.harness import Finding, Reading, Report, find, in_a_process
from tests.fuzz.mutations import mutate
from tests.fuzz.targets import TARGETS


def fuzz_guided(
    atheris: ModuleType, name: str, seconds: float, seed: int
) -> tuple[list[Finding], int, int]:
    """What came out of a target's inputs, how many there were, and how many were refused.

    atheris: which counts the lines that are reached, of modules imported under its eyes.
    """
    with TemporaryDirectory() as text:
        folder = Path(text)
        lines, how = in_a_process(partial(_search, atheris, name, seconds, seed, folder))
        findings = find(lines)
        if how:
            findings.append(Finding(-1, f"{how}; its files are in {_keep(folder / 'in')}", how))
    counts = [(line["count"], line["refused"]) for line in lines if "count" in line]
    return findings, *(counts or [(0, 0)])[-1]


def _keep(files: Path) -> Path:
    return shutil.copytree(files, Path(mkdtemp(prefix="fuzz-"), "in"))


def _search(
    atheris: ModuleType, name: str, seconds: float, seed: int, folder: Path, report: Report
) -> NoReturn:
    reading, seen = Reading(TARGETS[name], folder), set[str]()
    paths, counts, ends = list(reading.good), {"count": 0, "refused": 0}, time.monotonic() + seconds

    def read(content: bytes) -> None:
        outcome = reading.read(_unpack(paths, content))
        counts["count"] += 1
        counts["refused"] += "refused" in outcome
        where = outcome.get("where", outcome.get("what"))
        if where and where not in seen:
            seen.add(where)
            what = f"{outcome['what']}\n  its files are in {_keep(folder / 'in')}"
            report(number=counts["count"], what=what, where=where)
        if time.monotonic() > ends:
            report(**counts)
            os._exit(0)  # libFuzzer would go on

    def change(content: bytes, limit: int, number: int) -> bytes:
        draw, files = random.Random(number), _unpack(paths, content)
        path = draw.choice(paths)
        is_ours = draw.random() < 0.5
        files[path] = (
            mutate(files[path], draw) if is_ours else atheris.Mutate(files[path], limit // 2)
        )
        return _pack(files)[:limit]

    (folder / "corpus").mkdir()
    (folder / "corpus" / "good").write_bytes(_pack(reading.good))
    longest = 4096 + 2 * (folder / "corpus" / "good").stat().st_size
    options = [
        f"-seed={seed + 1}",
        f"-max_len={longest}",
        "-timeout=1000",
        "-rss_limit_mb=0",
        "-handle_segv=0",
    ]
    atheris.Setup([sys.argv[0], str(folder / "corpus"), *options], read, custom_mutator=change)
    atheris.Fuzz()


def _pack(files: Mapping[str, bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(content)) + content for content in files.values())


def _unpack(paths: Sequence[str], content: bytes) -> dict[str, bytes]:
    """Whatever the content is: a file of each path."""
    files, place = {}, 0
    for path in paths:
        size = int.from_bytes(content[place : place + 4], "little")
        files[path] = content[place + 4 : place + 4 + size]
        place += 4 + size
    return files
