"""python -m slim_fast.report RUN --data CACHE: what a run has learned, as one page."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from jsonargparse import Namespace
from tqdm import tqdm

from slim_fast.command import CommandParser, run_command, run_process
from slim_fast.data.cache import ClipCache
from slim_fast.errors import program_name
from slim_fast.evaluation.features import PEOPLE
from slim_fast.evaluation.protocols.results import default_folder
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.interop.transfer import match_to_cache
from slim_fast.reporting import ReportSettings, write_report
from slim_fast.reporting.plots import load_library
from slim_fast.skeletons import Topology
from slim_fast.training.machine import choose_device


def build_parser() -> CommandParser:
    """The command line."""
    parser = CommandParser(
        prog=program_name("report"),
        description="Write report.html: a run's settings and curves, accuracies beside their "
        "controls, confusion, the features in the plane, nearest neighbours, attention, views and "
        "errors, with clips as moving skeletons. One file that opens offline; what "
        f"`{program_name('evaluate')}` found on the same clips is in it.",
    )
    source = "a run, an encoder folder, a .pth file, or owner/name on Hugging Face"
    parser.add_argument("run", type=str, metavar="RUN", help=source)
    parser.add_cache_options("cache to look at; without labels or split, parts are left out")
    people = "most people of a clip: those seen longest, then those who move most"
    parser.add_argument("--people", type=int, default=PEOPLE, help=people)
    clips = "most clips in the embedding, evenly spaced, and most errors that play"
    parser.add_argument("--clips", type=int, default=400, help=clips)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random encoder")
    out = "file to write (default: report.html, in the run or beside the file)"
    parser.add_argument("--out", type=Path, metavar="FILE", help=out)
    results = f"folder that `{program_name('evaluate')}` was given as --out"
    parser.add_argument("--results", type=Path, metavar="FOLDER", help=results)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    return run_command(
        lambda: run(build_parser().parse(arguments)), lambda _: "Stopped; no report was written."
    )


def run(options: Namespace) -> None:
    """What the command does. Raises: UserError for input that does not fit."""
    load_library()  # before anything that takes long
    trained = SLiMEncoder.from_pretrained(options.run).to(choose_device(options.device))
    cache = ClipCache.open(options.data)
    encoder = match_to_cache(trained, cache, options.match_joints)
    folder = default_folder(options.run)
    settings = ReportSettings(
        results=options.results or folder,
        split=options.split,
        people=options.people,
        clips=options.clips,
        seed=options.seed,
        notes=() if encoder is trained else (describe_transfer(trained, cache),),
    )
    beside = folder.parent if Path(options.run).exists() else folder
    path = options.out or beside / "report.html"
    write_report(path, options.run, encoder, cache, settings, show_steps)
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


def describe_transfer(trained: SLiMEncoder, cache: ClipCache) -> str:
    """A sentence on an encoder whose weights were carried over to the cache's skeleton."""
    own = trained.topology
    name = own.name if isinstance(own, Topology) else f"{own} joints"
    return (
        f"The encoder was trained on another skeleton: {name} with {trained.channel_names}. Its "
        f"weights were carried over to {cache.topology.name} with {cache.channels} by the joints' "
        "names."
    )


def show_steps(steps: Sequence[int], what: str) -> Iterable[int]:
    """The steps, behind a progress bar on a terminal."""
    return tqdm(steps, desc=what, unit="batch", leave=False, disable=None)


if __name__ == "__main__":
    sys.exit(run_process(main))
