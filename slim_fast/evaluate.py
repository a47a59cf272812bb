"""python -m slim_fast.evaluate PROTOCOL RUN --data CACHE: what an encoder is worth on labels."""

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from tqdm import tqdm

from slim_fast import __version__
from slim_fast.command import CommandParser, run_command, run_process
from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError, describe_os_error, program_name
from slim_fast.evaluation.feature_files import FeatureFiles, hash_encoder
from slim_fast.evaluation.features import PEOPLE
from slim_fast.evaluation.protocols import (
    Figures,
    Settings,
    Task,
    evaluate_finetuning,
    evaluate_knn,
    evaluate_linear,
    evaluate_semi,
    evaluate_transfer,
)
from slim_fast.evaluation.protocols.fusion import evaluate_fusion, with_stream
from slim_fast.evaluation.protocols.linear import evaluate_saved_grid
from slim_fast.evaluation.protocols.results import (
    default_folder,
    format_table,
    summarise,
    write_results,
)
from slim_fast.evaluation.tuning.recipe import PUBLISHED_BATCH, TuningRecipe, published_semi
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.interop.transfer import match_to_cache
from slim_fast.model.streams import parse_streams
from slim_fast.training.machine import choose_device
from slim_fast.training.threads import ThreadAdapter

PROTOCOLS = {
    "knn": "k nearest neighbours and retrieval with frozen features",
    "linear": "the paper's grid of linear classifiers on frozen features",
    "semi": "the encoder tuned on 1 % and 10 % of the labels",
    "finetune": "the encoder tuned on all labels",
    "transfer": "finetune, 1-NN and logistic regression on clips of another data set, whose joints "
    "are matched by name",
}
FUSED = ("knn", "linear")
ALL = ("knn", "linear", "semi", "finetune")
_READERS = {"parts": FUSED, "windows": (*FUSED, "semi"), "classifiers": ("linear",)}
"""Options that not every protocol reads."""
_RECIPE = TuningRecipe()


def build_parser() -> CommandParser:
    """The command line."""
    parser = CommandParser(
        prog=program_name("evaluate"),
        description="Accuracy of an encoder on a labelled cache, beside a random encoder, the same "
        "network trained from scratch, and raw coordinates. Prints one table and writes a JSON "
        "file a protocol beside the run; features are computed once and kept there. "
        + "; ".join(f"{name}: {what}" for name, what in PROTOCOLS.items())
        + f"; all: {', '.join(ALL)}.",
    )
    parser.add_argument("what", choices=[*PROTOCOLS, "all"], metavar="PROTOCOL", help="see above")
    source = "a run, an encoder folder, a .pth file, or owner/name on Hugging Face"
    parser.add_argument("run", type=str, metavar="RUN", help=source)
    parser.add_cache_options("labelled cache with a train/test split")
    people = "most people of a clip: those seen longest, then those who move most"
    parser.add_argument("--people", type=int, default=PEOPLE, help=people)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    seeds = "how many seeds: of random encoders, classifiers, subsets of labels; mean and deviation"
    parser.add_argument("--seeds", type=int, default=3, help=seeds)
    parser.add_argument(
        "--protocol",
        choices=["held-out", "paper"],
        default="held-out",
        help="held-out: linear classifiers on the clips as they are. paper: as published, linear "
        "and semi on augmented clips (mirrored, scaled, turned up to π), semi by SGD; hours on a "
        "CPU. The linear classifier chosen on held-out training clips and the best one on the test "
        "clips, which the paper reports, are printed both ways",
    )
    iterations = (
        "of every training; by default linear takes half the number of training clips, 2,000 to "
        "20,000; semi and finetune take 20 epochs, but at least 80 and 300, at most 20,000; "
        "--protocol paper takes 20,000 for linear and semi"
    )
    parser.add_argument("--iterations", type=int, help=iterations)
    parser.add_argument(
        "--fractions", type=float, nargs="+", default=[0.01, 0.1], help="shares of labels of semi"
    )
    parser.add_argument(
        "--draw",
        choices=["balanced", "random", "both"],
        default="both",
        help="how semi draws labels: of every class alike, at least one; or of all clips together",
    )
    _add_tuning_options(parser)
    stream = "streams that RUN reads, of joint,bone,motion; by default what it was trained on. "
    stream += "Several are evaluated by knn or linear, alone and fused late: their scores are added"
    parser.add_argument("--stream", type=str, help=stream)
    fuse = "encoders to fuse with it, each of the stream that it was trained on"
    parser.add_argument("--fuse", type=str, nargs="+", default=[], metavar="RUN", help=fuse)
    parts = (
        "knn and linear also read the mean patches of every body part at every time, which tell "
        "more on small data sets and take more memory"
    )
    parser.add_argument("--parts", action="store_true", help=parts)
    windows = (
        "knn, linear and semi also read the CLS tokens of nine overlapping windows of a clip, in "
        "turn, which keep the order of what happens; nine times the encoding"
    )
    parser.add_argument("--windows", action="store_true", help=windows)
    classifiers = "linear classifiers in the release's format to score instead of training them"
    parser.add_argument("--classifiers", type=Path, metavar="FILE", help=classifiers)
    out = "folder of features and results (default: evaluation, in the run or beside the file)"
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=out)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _add_tuning_options(parser: CommandParser) -> None:
    """Options of semi, finetune and transfer."""
    batch = (
        f"clips of a step of tuning; by default {_RECIPE.batch}; 256 for semi with --protocol paper"
    )
    parser.add_argument("--batch", type=int, help=batch)
    for name, what in {
        "learning_rate": "of tuning (AdamW), of the head and the last block",
        "layer_decay": "a layer learns so much as fast as the one after it",
        "drop_path": "probability of leaving a branch of the last block out of a clip",
        "label_smoothing": "share of the target that all classes get",
        "mixup": "alpha of the Beta distribution that clips are mixed by; 0: not mixed",
    }.items():
        default = getattr(_RECIPE, name)
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(default), default=default, help=what)


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    return run_command(
        lambda: run(_parse(words)),
        lambda _: "Stopped; what was finished is kept: features, and files of protocols.",
    )


def _parse(words: Sequence[str]) -> Namespace:
    """Raises: UserError, also for a run without a protocol, and options that it does not read."""
    known = (*PROTOCOLS, "all")
    if words and words[0] not in known and Path(words[0]).exists():
        raise UserError(
            f"Say what to evaluate: `{program_name('evaluate')} all {words[0]} --data CACHE`, or "
            f"{', '.join(PROTOCOLS)} instead of all."
        )
    options = build_parser().parse(list(words))
    for name, readers in _READERS.items():
        if options[name] and options.what not in (*readers, "all"):
            raise UserError(
                f"{options.what} reads no --{name}: leave it out, or choose {' or '.join(readers)}."
            )
    return options


def run(options: Namespace) -> None:
    """What the command does. Raises: UserError for input that does not fit."""
    given = {name: options[name] for name in asdict(_RECIPE) if options.get(name) is not None}
    recipe, is_published = replace(_RECIPE, **given), options.protocol == "paper"
    semi = published_semi(PUBLISHED_BATCH if options.batch is None else options.batch)
    settings = Settings(
        seeds=tuple(range(options.seed, options.seed + options.seeds)),
        published=is_published,
        iterations=options.iterations,
        fractions=tuple(options.fractions),
        draws=options.draw,
        recipe=recipe,
        semi_recipe=semi if is_published else None,
        parts=options.parts,
        windows=options.windows,
    )
    cache = ClipCache.open(options.data)
    encoders = open_encoders(options, cache)
    encoder = next(iter(encoders.values()))
    out = options.out or default_folder(options.run)
    files = FeatureFiles(out / "features", cache, options.people)
    threads = ThreadAdapter(fixed=False, report=lambda _: None)
    tasks = {
        name: Task(one, cache, files, options.split, partial(show_steps, threads))
        for name, one in encoders.items()
    }
    task = tasks[next(iter(tasks))]
    names = ALL if options.what == "all" else (options.what,)
    results = {}
    folder = out / (cache.path.resolve().stem + (f"-{options.split}" if options.split else ""))
    for name in names:
        begin = time.perf_counter()
        if len(tasks) > 1:
            figures = evaluate_fusion(tasks, settings, name)
        else:
            figures = _evaluate(name, task, settings, options, folder)
        results[name] = figures
        about = {
            "protocol": name,
            "run": options.run,
            "encoder": hash_encoder(encoder),
            "data": str(cache.path),
            "cache": files.cache_hash,
            "split": options.split or next(iter(cache.splits)),
            "clips": [len(task.train), len(task.test)],
            "classes": list(cache.classes),
            "streams": list(encoders),
            "settings": {**asdict(settings), "people": options.people},
            "seconds": round(time.perf_counter() - begin, 1),
            "device": str(encoder.pos_embed.device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "slim_fast": __version__,
        }
        _keep(folder / f"{name}.json", lambda path, f=figures, a=about: write_results(path, f, a))  # type: ignore[misc]
    if options.json:
        print(json.dumps({name: summarise(figures) for name, figures in results.items()}))
    else:
        print(format_table(results))
        print(f"Results in {folder}.")


def open_encoders(options: Namespace, cache: ClipCache) -> dict[str, SLiMEncoder]:
    """The encoders to evaluate by the streams that they read; one, unless they are fused.

    Raises: UserError for streams that are unknown, or not fused by the protocol, and encoders that
    do not fit the cache.
    """
    match, device = (
        options.match_joints or options.what == "transfer",
        choose_device(options.device),
    )
    runs = [
        match_to_cache(SLiMEncoder.from_pretrained(run).to(device), cache, match)
        for run in (options.run, *options.fuse)
    ]
    streams = parse_streams(options.stream) if options.stream else (runs[0].config.stream,)
    found = {str(stream): with_stream(runs[0], stream) for stream in streams}
    for run, encoder in zip(options.fuse, runs[1:], strict=True):
        stream = str(encoder.config.stream)
        found[f"{stream} of {run}" if stream in found else stream] = encoder
    if len(found) > 1 and options.parts:
        raise UserError("--parts reads one stream: leave it out, or choose one stream.")
    if len(found) > 1 and options.what not in FUSED:
        raise UserError(
            f"Several streams are fused by {' and '.join(FUSED)}: choose one of these, or one "
            "stream."
        )
    return found


def _evaluate(
    name: str, task: Task, settings: Settings, options: Namespace, folder: Path
) -> Figures:
    """One protocol's figures; what it trains is kept in `folder`."""
    if name == "knn":
        return evaluate_knn(task, settings)
    if name == "linear" and options.classifiers is not None:
        return evaluate_saved_grid(task, options.classifiers)
    if name == "linear":
        return evaluate_linear(task, settings, folder / "linear.pth")
    if name == "semi":
        return evaluate_semi(task, settings)
    protocol = evaluate_finetuning if name == "finetune" else evaluate_transfer
    return protocol(task, settings)[0]


def _keep(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file; figures that took long are shown even where it can't be. Warns: then."""
    try:
        write(path)
    except OSError as error:
        warnings.warn(f"Not kept: {describe_os_error(error)}; choose --out.", stacklevel=2)


def show_steps(threads: ThreadAdapter, steps: Sequence[int], what: str) -> Iterator[int]:
    """The steps, behind a progress bar on a terminal; fewer threads while others need them."""
    for step in tqdm(steps, desc=what, unit="step", leave=False, disable=None):
        threads.adapt(step)
        yield step


if __name__ == "__main__":
    sys.exit(run_process(main))
