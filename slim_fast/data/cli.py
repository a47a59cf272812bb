"""The command line of `python -m slim_fast.data`."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from slim_fast.command import CommandParser, run_command
from slim_fast.data.clips import CHANNELS
from slim_fast.errors import program_name
from slim_fast.skeletons import get_topology, topology_names

SHOWN_PROBLEMS = 10


def convert_command(args: Namespace) -> None:
    """Convert a data set and report what was converted, changed and skipped."""
    from slim_fast.data.audit import audit_cache
    from slim_fast.data.convert import convert
    from slim_fast.data.inspection import check_people
    from slim_fast.data.missing import read_missing
    from slim_fast.data.readers import Options

    topology = get_topology(args.topology) if args.topology else None
    options = Options(
        topology,
        args.channels,
        args.workers,
        scale=args.scale,
        labels_from=args.labels_from,
        missing=read_missing(Path(args.missing)) if args.missing else frozenset(),
    )
    started = time.perf_counter()
    done = convert(args.source, args.out, options, args.overwrite, progress=True)
    for problem in done.problems[:SHOWN_PROBLEMS]:
        print(
            f"{'skipped ' * problem.is_recording}{problem.item}: {problem.reason}", file=sys.stderr
        )
    if len(done.problems) > SHOWN_PROBLEMS:
        print(f"... and {len(done.problems) - SHOWN_PROBLEMS} more", file=sys.stderr)
    cache, report = done.cache, done.report
    print(
        f"{len(cache)} clips ({cache.positions.nbytes / 1e6:.1f} MB, {len(cache.classes)} "
        f"classes, topology '{cache.topology.name}') written to {args.out} in "
        f"{time.perf_counter() - started:.1f} s"
    )
    if done.skipped:
        print(
            f"{sum(done.skipped.values())} clips skipped: "
            + ", ".join(f"{count} {reason}" for reason, count in done.skipped.items())
        )
    notes = (
        (report.nonfinite_joint_frames, "joint-frames were not finite and count as undetected"),
        (report.frames_dropped, "empty frames dropped"),
        (report.frames_interpolated, "empty frames in the middle interpolated"),
        (report.people_dropped, "empty people dropped"),
    )
    for count, what in notes:
        if count:
            print(f"{count} {what}")
    for sentence in check_people(cache):
        print(sentence)
    for warning in done.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for name, code in cache.splits.items():
        print(f"split {name}: {int((code == 1).sum())} train, {int((code == 2).sum())} test")
    for line in audit_cache(cache):
        print(line)


def inspect_command(args: Namespace) -> None:
    """Describe a cache and draw some of its clips."""
    from slim_fast.data.audit import audit_cache
    from slim_fast.data.cache import ClipCache
    from slim_fast.data.inspection import describe_cache, draw_cache

    cache = ClipCache.open(args.cache)
    print(describe_cache(cache))
    if audit := audit_cache(cache):
        print("", *audit, sep="\n")
    picture = draw_cache(cache, args.png or Path(args.cache) / "contact_sheet.png")
    print(f"\ncontact sheet: {picture}")


def topologies_command(args: Namespace) -> None:
    """List the skeletons that are known by name."""
    for name in topology_names():
        topology = get_topology(name)
        print(
            f"{name:18}{topology.num_joints:3} joints, up {topology.up:3} parts: "
            f"{', '.join(topology.parts)}"
        )


def subset_command(args: Namespace) -> None:
    """Write a cache of some joints of another."""
    from slim_fast.data.cache import ClipCache
    from slim_fast.data.subset import write_subset

    cache = write_subset(ClipCache.open(args.cache), Path(args.out), args.joints, args.overwrite)
    print(
        f"{len(cache)} clips of {cache.topology.num_joints} joints "
        f"({', '.join(cache.topology.joints)}) written to {args.out}"
    )


def synthetic_command(args: Namespace) -> None:
    """Generate synthetic actions."""
    from slim_fast.data.cache_writer import check_output_free
    from slim_fast.data.synthetic import write_synthetic

    check_output_free(Path(args.out))
    numbers = {name: args[name] for name in ("seed", "subjects", "repetitions", "programs")}
    cache = write_synthetic(args.out, **numbers, progress=sys.stderr.isatty())
    print(f"{len(cache)} clips ({len(cache.classes)} classes) written to {args.out}")


def build_parser() -> CommandParser:
    """The command line, one parser a subcommand."""
    convert = CommandParser()
    convert.add_argument(
        "source", type=str, metavar="IN", help="file or folder of a format known by its content"
    )
    convert.add_argument("out", type=str, metavar="OUT", help="folder of the cache")
    convert.add_argument(
        "--topology",
        type=str,
        help="a name of `topologies` or a JSON file; by default what the data leave no doubt of",
    )
    convert.add_argument(
        "--channels", choices=CHANNELS, help="what a joint's numbers are; c is a confidence"
    )
    convert.add_argument(
        "--scale", type=float, default=1.0, help="factor of coordinates, 0.001 for millimetres"
    )
    convert.add_argument(
        "--labels-from", type=int, default=0, metavar="N", help="number of the first class"
    )
    convert.add_argument(
        "--overwrite", action="store_true", help="replace the cache that is at OUT"
    )
    convert.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes that read a folder's files"
    )
    convert.add_argument(
        "--missing",
        type=str,
        metavar="FILE",
        help="NTU's published list of recordings with missing skeletons, which are left out",
    )

    inspect = CommandParser()
    inspect.add_argument("cache", type=str, metavar="CACHE", help="folder of the cache")
    inspect.add_argument(
        "--png", type=str, metavar="FILE", help="picture; CACHE/contact_sheet.png by default"
    )

    subset = CommandParser()
    subset.add_argument("cache", type=str, metavar="CACHE", help="folder of a cache")
    subset.add_argument("out", type=str, metavar="OUT", help="folder of the new cache")
    some = (
        "upper-body, left-arm, right-arm, left-hand, right-hand, or names of joints, set apart by "
    )
    some += "commas"
    subset.add_argument("--joints", type=str, required=True, help=some)
    subset.add_argument("--overwrite", action="store_true", help="replace the cache that is at OUT")

    synthetic = CommandParser()
    synthetic.add_argument("out", type=str, metavar="OUT", help="folder of the cache")
    synthetic.add_argument(
        "--seed", type=int, default=0, help="another seed: other people and motions"
    )
    synthetic.add_argument("--subjects", type=int, default=24, help="people who perform")
    synthetic.add_argument(
        "--repetitions", type=int, default=6, help="times each of them does every action"
    )
    programs = "random motions beside the 16 named actions, for pre-training that carries over"
    synthetic.add_argument("--programs", type=int, default=0, help=programs)

    parser = CommandParser(prog=program_name("data"), description="Prepare skeleton clips.")
    commands = parser.add_subcommands(metavar="COMMAND")
    commands.add_subcommand(
        "convert", convert, help="write a data set of any known format as a clip cache"
    )
    commands.add_subcommand(
        "inspect", inspect, help="counts, lengths, units check and a picture of a cache"
    )
    commands.add_subcommand("topologies", CommandParser(), help="list the known skeletons")
    commands.add_subcommand("subset", subset, help="write a cache of some joints of another")
    commands.add_subcommand("synthetic", synthetic, help="generate synthetic actions as a cache")
    return parser


COMMANDS = {
    "convert": convert_command,
    "inspect": inspect_command,
    "topologies": topologies_command,
    "subset": subset_command,
    "synthetic": synthetic_command,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns its exit status."""

    outputs: list[Path] = []

    def run() -> None:
        options = build_parser().parse(arguments)
        given = options[options.subcommand]
        if options.subcommand == "convert":
            outputs.append(Path(os.path.realpath(given.out)))
        COMMANDS[options.subcommand](given)

    def explain(number: signal.Signals) -> str:
        from slim_fast.data.convert import kept_folder

        cause = "Ctrl-C" if number == signal.SIGINT else number.name
        kept = [folder for folder in map(kept_folder, outputs) if folder.exists()]
        return f"stopped by {cause}: nothing was written" + "".join(
            f"; what was read is in {folder}, and the same command goes on from there"
            for folder in kept
        )

    return run_command(run, explain)
