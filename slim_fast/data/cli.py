"""The command line of `python -m slim_fast.data`."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from slim_fast.data.clips import CHANNELS
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology, topology_names

NAMED_PROBLEMS = 10


class Terminated(BaseException):
    """SIGTERM arrived; unwinds the stack like Ctrl-C does."""


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def convert_command(args: argparse.Namespace) -> None:
    """Convert a data set and say what became of it."""
    from slim_fast.data.convert import convert
    from slim_fast.data.readers import Options

    topology = get_topology(args.topology) if args.topology else None
    started = time.perf_counter()
    done = convert(args.source, args.out, Options(topology, args.channels, args.workers), args.overwrite, progress=True)
    for problem in done.problems[:NAMED_PROBLEMS]:
        print(f"skipped {problem.item}: {problem.reason}", file=sys.stderr)
    if len(done.problems) > NAMED_PROBLEMS:
        print(f"... and {len(done.problems) - NAMED_PROBLEMS} more", file=sys.stderr)
    cache, report = done.cache, done.report
    print(
        f"{len(cache)} clips ({cache.positions.nbytes / 1e6:.1f} MB, {len(cache.classes)} classes, topology "
        f"'{cache.topology.name}') written to {args.out} in {time.perf_counter() - started:.1f} s"
    )
    if done.skipped:
        print(
            f"{sum(done.skipped.values())} clips skipped: "
            + ", ".join(f"{count} {reason}" for reason, count in done.skipped.items())
        )
    notes = (
        (report.nonfinite_person_frames, "person-frames were not finite and count as absent"),
        (report.frames_dropped, "empty frames dropped"),
        (report.people_dropped, "empty people dropped"),
    )
    for count, what in notes:
        if count:
            print(f"{count} {what}")
    for name, code in cache.splits.items():
        print(f"split {name}: {int((code == 1).sum())} train, {int((code == 2).sum())} test")


def inspect_command(args: argparse.Namespace) -> None:
    """Describe a cache and draw some of its clips."""
    from slim_fast.data.cache import ClipCache
    from slim_fast.data.inspection import describe, draw

    cache = ClipCache.open(args.cache)
    print(describe(cache))
    print(f"\ncontact sheet: {draw(cache, args.png or Path(args.cache) / 'contact_sheet.png')}")


def topologies_command(args: argparse.Namespace) -> None:
    """List the skeletons that are known by name."""
    for name in topology_names():
        topology = get_topology(name)
        print(f"{name:18}{topology.num_joints:3} joints, up {topology.up:3} parts: {', '.join(topology.parts)}")


def synthetic_command(args: argparse.Namespace) -> None:
    """Generate synthetic actions."""
    from slim_fast.data.cache import refuse_to_clobber
    from slim_fast.data.synthetic import write_synthetic

    refuse_to_clobber(Path(args.out))
    cache = write_synthetic(
        args.out, seed=args.seed, subjects=args.subjects, repetitions=args.repetitions, progress=sys.stderr.isatty()
    )
    print(f"{len(cache)} clips ({len(cache.classes)} classes) written to {args.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m slim_fast.data", description="Prepare skeleton clips.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    convert = commands.add_parser("convert", help="write a data set of any known format as a clip cache")
    convert.add_argument("source", metavar="IN", help="a file or folder; the format is recognised by its content")
    convert.add_argument("out", metavar="OUT", help="folder of the cache")
    convert.add_argument("--topology", help="a name of `topologies` or a JSON file (default: if data leave no doubt)")
    convert.add_argument("--channels", choices=CHANNELS, help="what a joint's numbers are; c is a confidence")
    convert.add_argument("--overwrite", action="store_true", help="replace the cache that is at OUT")
    convert.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes for .skeleton files (default: 1)"
    )
    convert.set_defaults(run=convert_command)

    inspect = commands.add_parser("inspect", help="counts, lengths, units check and a picture of a cache")
    inspect.add_argument("cache", metavar="OUT", help="folder of the cache")
    inspect.add_argument("--png", metavar="FILE", help="where to draw clips (default: OUT/contact_sheet.png)")
    inspect.set_defaults(run=inspect_command)

    topologies = commands.add_parser("topologies", help="list the known skeletons")
    topologies.set_defaults(run=topologies_command)

    synthetic = commands.add_parser("synthetic", help="generate a data set of synthetic actions")
    synthetic.add_argument("out", metavar="OUT", help="folder of the cache")
    synthetic.add_argument("--seed", type=int, default=0, help="another seed, other people and motions (default 0)")
    synthetic.add_argument("--subjects", type=int, default=24, help="people who perform (default 24)")
    synthetic.add_argument("--repetitions", type=int, default=6, help="times each does every action (default 6)")
    synthetic.set_defaults(run=synthetic_command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns its exit status: 0, 2 (a mistake, named in one sentence), 130 or 143 (stopped)."""
    args = _parser().parse_args(argv)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        args.run(args)
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away; there is nobody to tell
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C: nothing was written", file=sys.stderr)
        return 130
    except Terminated:
        print("\nstopped by SIGTERM: nothing was written", file=sys.stderr)
        return 143
    finally:
        signal.signal(signal.SIGTERM, before)
