"""Conversion of a data set in any known format to a clip cache."""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from slim_fast.data.cache import ClipCache
from slim_fast.data.cache_writer import CacheWriter, check_output_free
from slim_fast.data.clips import CleaningReport, Clip, count_coordinates
from slim_fast.data.inspection import check_labels, check_units, measure_geometry
from slim_fast.data.missing import REASON, is_missing
from slim_fast.data.readers import Options, Problem, open_source
from slim_fast.data.readers.kept import forget_batches
from slim_fast.data.readers.recordings import WorkerEndedError
from slim_fast.errors import UserError


@dataclass(frozen=True)
class Conversion:
    """A new cache and what happened to the source's recordings.

    Attributes:
        report: counts of the cleaning.
        skipped: reason -> number of recordings that were not stored.
        problems: recordings that could not be read, and parts of a split that match none.
        warnings: what looks wrong about the data set as a whole.
    """

    cache: ClipCache
    report: CleaningReport
    skipped: dict[str, int]
    problems: list[Problem]
    warnings: list[str]


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: Options | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Conversion:
    """Write the clips of `source` as a cache at `out`, in constant memory.

    After an exception `out` is as it was. `progress` shows a bar when standard error is a terminal.
    What was read of a data set of many files is kept in `kept_folder(out)` until the conversion is
    complete: after an interrupt, or when the system ended a process, the same call goes on from it.

    Raises: UserError for input that cannot be read and output that cannot be written.
    """
    out = Path(os.path.realpath(out))
    check_output_free(out, overwrite)
    options = options or Options()
    if options.scratch is None and os.access(out.parent, os.W_OK):
        # temporary files may be as large as the cache, and /tmp may be in memory
        options = replace(options, scratch=out.parent)
    if not 0 < options.scale < math.inf:
        raise UserError(
            f"--scale {options.scale}: a factor above 0 is needed, such as 0.001 from millimetres "
            "to metres"
        )
    kept = options.kept or kept_folder(out)
    options = replace(options, kept=kept)
    try:
        converted = _write(Path(source), out, options, overwrite, progress)
    except WorkerEndedError:
        raise
    except UserError:  # of which the same call would come to the same end
        forget_batches(kept)
        raise
    forget_batches(kept)
    return converted


def kept_folder(out: Path) -> Path:
    """Where an unfinished conversion to `out` keeps what it has read."""
    return out.with_name(f"{out.name}.unfinished")


def _write(
    source: Path, out: Path, options: Options, overwrite: bool, progress: bool
) -> Conversion:
    opened = open_source(source, options)
    are_numbers = tuple(opened.classes) == tuple(map(str, range(len(opened.classes))))
    # without classes the writer names them by their labels, which then count from labels_from
    classes = () if are_numbers and options.labels_from else opened.classes
    with CacheWriter(
        out, opened.topology, opened.channels, classes, str(source), overwrite, options.labels_from
    ) as writer:
        for clip in tqdm(
            opened.clips,
            total=opened.num_clips,
            unit="clip",
            desc="converting",
            disable=None if progress else True,
        ):
            if is_missing(clip.name, options.missing):
                writer.skip(REASON)
            else:
                writer.add(_scale(clip, options.scale, opened.channels))
        for problem in opened.problems:
            if problem.is_recording:
                is_listed = is_missing(problem.item, options.missing)
                writer.skip(REASON if is_listed else problem.reason)
    cache = ClipCache.open(out)
    warnings = [
        *opened.warnings,
        *check_units(cache, measure_geometry(cache)),
        *check_labels(cache),
    ]
    problems = [one for one in opened.problems if not is_missing(one.item, options.missing)]
    return Conversion(cache, writer.report, writer.skipped, problems, warnings)


def _scale(clip: Clip, factor: float, channels: str) -> Clip:
    positions = np.asarray(clip.positions)
    if factor == 1 or positions.ndim != 4 or positions.dtype.kind not in "fiu":
        return clip
    scale = np.ones((positions.shape[2], 1), np.float32)
    scale[: count_coordinates(channels)] = factor
    return replace(clip, positions=positions.astype(np.float32) * scale)
