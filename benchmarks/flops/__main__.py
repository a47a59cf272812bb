"""python -m benchmarks.flops: what the methods cost, counted, beside the numbers of the paper.

Counts through the modules themselves, checks every count against its closed form, and compares
masked autoencoders (MAE) with SLiM for several numbers of people, since a clip's second person is
empty more often than not.
"""

import argparse
import json
import math
import sys
from pathlib import Path

from benchmarks.flops.counting import CountError
from benchmarks.flops.paper import NTU, NTU_PEOPLE, Clips
from benchmarks.flops.report import report, to_json
from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError


def parse_people(people: str | None, data: Path | None) -> Clips:
    """People a clip as the options give them. Raises: UserError."""
    if people is not None and data is not None:
        raise UserError(
            "--people and --data both say how many people a clip holds: give one of them."
        )
    if data is not None:
        return Clips(float(ClipCache.open(data).people.mean()), f"mean of {data.name}")
    if people is None:
        return NTU
    try:
        count = float(people)
    except ValueError:
        count = math.nan
    if not 0 < count < math.inf:
        raise UserError(
            f"--people must be a number above 0, the mean number of people a clip; got {people!r}."
        )
    return Clips(count, "as given")


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flops", description=__doc__)
    parser.add_argument(
        "--people",
        metavar="MEAN",
        help=f"people a clip in the mean (default {NTU_PEOPLE}, an estimate)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="CACHE", help="clip cache whose people are counted instead"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of tables"
    )
    options = parser.parse_args(arguments)
    try:
        clips = parse_people(options.people, options.data)
        print(json.dumps(to_json(clips), ensure_ascii=False) if options.json else report(clips))
    except UserError as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 2
    except CountError as failure:
        print(f"error: a count disagrees with its closed form. {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
