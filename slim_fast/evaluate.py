"""python -m slim_fast.evaluate knn|linear RUN --data CACHE: accuracy of frozen features."""

import json
import sys
from functools import partial
from typing import Any

from jsonargparse import Namespace
from tqdm import tqdm

from slim_fast.command import CommandParser, run_command, run_process
from slim_fast.data.cache import ClipCache
from slim_fast.errors import program_name
from slim_fast.evaluation.features import PEOPLE
from slim_fast.evaluation.probe import probe
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.interop.transfer import match_to_cache
from slim_fast.training.machine import choose_device

SOURCES = {"learned": "learned", "random_encoder": "random encoder", "coordinates": "coordinates"}


def build_parser() -> CommandParser:
    """The command line."""
    parser = CommandParser(
        prog=program_name("evaluate"),
        description="Accuracy of an encoder's frozen features on a labelled cache, beside a "
        "randomly initialised encoder's and raw coordinates'.",
    )
    parser.add_argument(
        "protocol", choices=["knn", "linear"], help="k nearest neighbours, or one linear classifier"
    )
    source = "a run, an encoder folder, a .pth file, or owner/name on Hugging Face"
    parser.add_argument("run", type=str, metavar="RUN", help=source)
    parser.add_cache_options("labelled cache with a train/test split")
    people = "most people of a clip: those seen longest, then those who move most"
    parser.add_argument("--people", type=int, default=PEOPLE, help=people)
    parser.add_argument("--seed", type=int, default=0, help="of the randomly initialised encoder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def show(protocol: str, accuracies: dict[str, Any]) -> None:
    """The table of accuracies on stdout."""
    found = accuracies[protocol]
    rows = {"linear": [found[source] for source in SOURCES]}
    if protocol == "knn":
        rows = {f"k = {k}": [found[source][k] for source in SOURCES] for k in found["learned"]}
    print(f"{'':<10}" + "".join(f"{title:>17}" for title in SOURCES.values()))
    for name, row in rows.items():
        print(f"{name:<10}" + "".join(f"{accuracy:>17.1%}" for accuracy in row))


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    return run_command(lambda: run(build_parser().parse(arguments)))


def run(options: Namespace) -> None:
    """What the command does. Raises: UserError for input that does not fit."""
    encoder = SLiMEncoder.from_pretrained(options.run).to(choose_device(options.device))
    cache = ClipCache.open(options.data)
    encoder = match_to_cache(encoder, cache, options.match_joints)
    bar = partial(tqdm, unit="batch", leave=False, disable=None)
    settings = {"people": options.people, "progress": bar}
    accuracies = probe(cache, encoder, (options.protocol,), options.split, options.seed, **settings)
    if options.json:
        print(json.dumps(accuracies))
    else:
        show(options.protocol, accuracies)


if __name__ == "__main__":
    sys.exit(run_process(main))
