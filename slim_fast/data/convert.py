"""From any data set that can be read to a cache."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from slim_fast.data.cache import CacheWriter, ClipCache, refuse_to_clobber
from slim_fast.data.clips import CleaningReport
from slim_fast.data.readers import Options, Problem, open_source


@dataclass(frozen=True)
class Conversion:
    """What came of it. skipped: reason -> recordings not stored; problems: the recordings that could not be read."""

    cache: ClipCache
    report: CleaningReport
    skipped: dict[str, int]
    problems: list[Problem]


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: Options | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Conversion:
    """Write the clips of `source` as a cache at `out`, in constant memory.

    `progress` shows a bar when standard error is a terminal. After any exception nothing is left at `out`, or what was
    there before. Raises UserError for input that cannot be read and output that cannot be written.
    """
    out = Path(os.path.realpath(out))
    refuse_to_clobber(out, overwrite)
    options = options or Options()
    if options.scratch is None and os.access(out.parent, os.W_OK):
        options = replace(options, scratch=out.parent)  # it will hold as much again, and /tmp may be memory
    opened = open_source(Path(source), options)
    with CacheWriter(out, opened.topology, opened.channels, opened.classes, str(source), overwrite) as writer:
        for clip in tqdm(
            opened.clips, total=opened.expected, unit="clip", desc="converting", disable=None if progress else True
        ):
            writer.add(clip)
        for problem in opened.problems:
            writer.skip(problem.reason)
    return Conversion(ClipCache.open(out), writer.report, writer.skipped, opened.problems)
