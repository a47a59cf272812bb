"""python -m slim_fast.evaluate knn|linear RUN --data CACHE: what a trained encoder's frozen features are worth."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError
from slim_fast.evaluation.probe import probe
from slim_fast.model.files import encoder_folder, load_encoder
from slim_fast.training.machine import choose_device

SOURCES = {"learned": "learned", "random_encoder": "random encoder", "coordinates": "coordinates"}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m slim_fast.evaluate",
        description="Accuracy of an encoder's frozen features on a labelled cache, beside a randomly initialised "
        "encoder's and raw coordinates'.",
    )
    parser.add_argument("protocol", choices=["knn", "linear"], help="k nearest neighbours, or one linear classifier")
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's folder, or an encoder folder")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="CACHE", help="labelled cache with a train/test split"
    )
    parser.add_argument("--split", help="split of the cache (its first by default)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the randomly initialised encoder (default 0)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser


def show(protocol: str, figures: dict[str, Any]) -> None:
    """The table of accuracies on stdout."""
    print(f"{'':<10}" + "".join(f"{title:>17}" for title in SOURCES.values()))
    if protocol == "knn":
        for k in figures["knn"]["learned"]:
            print(f"{f'k = {k}':<10}" + "".join(f"{figures['knn'][source][k]:>17.1%}" for source in SOURCES))
    else:
        print(f"{'linear':<10}" + "".join(f"{figures['linear'][source]:>17.1%}" for source in SOURCES))


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    options = build_parser().parse_args(arguments)
    try:
        encoder = load_encoder(encoder_folder(options.run), choose_device(options.device))
        cache = ClipCache.open(options.data)
        figures = probe(
            cache,
            encoder,
            (options.protocol,),
            options.split,
            options.seed,
            progress=lambda steps: tqdm(steps, unit="batch", leave=False, disable=None),
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(figures))
    else:
        show(options.protocol, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
