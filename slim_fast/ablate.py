"""python -m slim_fast.ablate {objectives|masking} --data CACHE: the paper's ablations."""

import shlex
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from slim_fast import __version__
from slim_fast.ablation.rows import ABLATIONS, find_bases, read_changes, select_rows
from slim_fast.ablation.table import (
    KEYS,
    TABLE,
    add_run,
    format_table,
    is_done,
    open_record,
    write_record,
)
from slim_fast.command import CommandParser, run_process
from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError, program_name
from slim_fast.evaluation.feature_files import hash_cache
from slim_fast.evaluation.probe import select_labelled_clips
from slim_fast.interop.initial import load_initial_weights
from slim_fast.pretrain import list_options, parse, run_training
from slim_fast.training.clips import open_data
from slim_fast.training.config import PretrainConfig
from slim_fast.training.folder import FREE_FIELDS
from slim_fast.training.machine import cpu_model
from slim_fast.training.output import logger, progress_shown
from slim_fast.training.run import pretrain

_PASSED = ("data", "split", "steps", "batch", "device", "threads")
"""Options that every run is given."""
_MEASURED = ("seconds", "samples_per_second", "device", "dtype", "threads", "torch", *KEYS)
"""What is taken from a run's summary."""


def build_parser() -> CommandParser:
    """The command line."""
    parser = CommandParser(
        prog=program_name("ablate"),
        description="The paper's ablations (arXiv 2603.10648) on a labelled cache: pre-trains each "
        "row with several seeds, evaluates it frozen, and writes table.md and table.json. The same "
        "command goes on where it was stopped. "
        + "; ".join(f"{name}: {', '.join(rows)}" for name, rows in ABLATIONS.items())
        + ".",
    )
    parser.add_argument("what", choices=list(ABLATIONS), metavar="ABLATION", help="see above")
    data = 'labelled cache with a train/test split, or "synthetic", generated actions'
    parser.add_argument("--data", type=str, required=True, metavar="CACHE", help=data)
    parser.add_argument("--split", type=str, help="split of the cache; its first by default")
    preset = "settings that the rows change"
    parser.add_argument("--preset", choices=find_bases(), default="small", help=preset)
    config = "YAML file with fields of pretrain to set on top of the preset"
    parser.add_argument("--config", type=Path, metavar="FILE", help=config)
    parser.add_argument("--steps", type=int, help="steps of a run; the preset's by default")
    parser.add_argument("--batch", type=int, help="clips of a step; the preset's by default")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds; may be raised later")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    rows = "rows to train; all by default, others may be added later"
    parser.add_argument("--rows", type=str, nargs="+", metavar="ROW", help=rows)
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda or auto")
    parser.add_argument("--threads", type=int, help="CPU threads; all by default")
    out = "folder of the runs and the table (default: runs/ablation-ABLATION)"
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=out)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    return run_training(lambda: run(build_parser().parse(words), words))


def run(options: Namespace, words: list[str]) -> None:
    """What the command does. Raises: UserError for input that cannot work; Interrupted."""
    ablation, out = options.what, options.out or Path("runs") / f"ablation-{options.what}"
    if options.seeds < 1:
        raise UserError(f"seeds={options.seeds}: at least one seed is needed.")
    changes = {row: read_changes(ablation, row) for row in select_rows(ablation, options.rows)}
    base = _configure(options, {})
    configs = {
        (row, seed): _configure(
            options, {**change, "seed": seed, "out": out / row / f"seed-{seed}"}
        )
        for seed in range(options.seed, options.seed + options.seeds)
        for row, change in changes.items()
    }
    with progress_shown():
        cache = open_data(base, out / "runs")
        select_labelled_clips(cache, None if base.split == "all" else base.split)
        about = {
            "ablation": ablation,
            "preset": options.preset,
            "data": _describe_data(cache, base),
            "settings": _settings(base),
            "command": f"{program_name('ablate')} {shlex.join(words)}",
            "slim_fast": __version__,
        }
        record = open_record(out, about)
        for (row, seed), config in _in_turn(configs, record):
            config.data = str(cache.path)
            summary = pretrain(config, load_initial_weights)
            measured = {key: summary[key] for key in _MEASURED}
            machine = {"processor": cpu_model()}
            add_run(record, row, changes[row], {"seed": seed, **measured, **machine})
            write_record(out, record)
        logger.info(f"\n{format_table(record)}\nThe table and what it is of are in {out / TABLE}.")


def _configure(options: Namespace, changes: Mapping[str, Any]) -> PretrainConfig:
    """The settings of a run: the preset, the file, the options, and what a row changes."""
    words = ["--preset", options.preset, "--log.plots=false"]
    words += [] if options.config is None else ["--config", str(options.config)]
    given = {name: options[name] for name in _PASSED if options[name] is not None}
    return parse([*words, *(f"--{k}={v}" for k, v in list_options({**given, **changes}))])


def _settings(config: PretrainConfig) -> dict[str, Any]:
    """The settings that all runs of an ablation have in common but for what the rows change."""
    fields = config.to_json()
    return {name: fields[name] for name in fields if name not in (*FREE_FIELDS, "seed")}


def _describe_data(cache: ClipCache, config: PretrainConfig) -> dict[str, Any]:
    """The cache that runs train on and are evaluated on."""
    split = config.split or next(iter(cache.splits))
    return {"name": cache.path.name, "split": split, "content": hash_cache(cache)}


def _in_turn(
    configs: Mapping[tuple[str, int], PretrainConfig], record: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, int], PretrainConfig]]:
    """The runs that are not done, every row before the next seed, with a line on each."""
    seconds: list[float] = []
    left = [run for run in configs if not is_done(record, *run)]
    if len(left) < len(configs):
        logger.info(f"{len(configs) - len(left)} of {len(configs)} runs are done.")
    for number, (row, seed) in enumerate(left):
        line = f"Run {len(configs) - len(left) + number + 1} of {len(configs)}: {row}, seed {seed}"
        if seconds:
            rest = timedelta(seconds=round(statistics.fmean(seconds) * (len(left) - number)))
            line += f"; about {rest} left"
        logger.info(f"\n{line}")
        begin = time.perf_counter()
        yield (row, seed), configs[row, seed]
        seconds.append(time.perf_counter() - begin)


if __name__ == "__main__":
    sys.exit(run_process(main))
