"""python -m slim_fast.pretrain, and `slim_fast.train`: train an encoder on skeleton clips."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, is_dataclass
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from jsonargparse import set_parsing_settings

from slim_fast.command import CommandParser, pipe_safe_output, run_command, run_process
from slim_fast.errors import UserError, program_name, suggest
from slim_fast.interop.initial import load_initial_weights
from slim_fast.training.config import PretrainConfig
from slim_fast.training.folder import ENCODER, METRICS
from slim_fast.training.loop import Interrupted
from slim_fast.training.monitor import read_metrics
from slim_fast.training.output import progress_shown
from slim_fast.training.run import pretrain

DEFAULT_PRESET = "demo"
METHODS: tuple[str, ...] = get_args(get_type_hints(PretrainConfig)["method"])
RESUMES = "The same command resumes from the last checkpoint, if one was written."
_FIELDS_OF_TRAIN = "the fields of slim_fast.training.config.PretrainConfig"
# --help shows the docstring below each field
set_parsing_settings(docstring_parse_attribute_docstrings=True)


def find_presets() -> dict[str, Path]:
    """The shipped presets: name -> YAML file."""
    folder = Path(str(resources.files("slim_fast"))) / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_preset(arguments: list[str]) -> str:
    """The preset named by the arguments.

    Raises: UserError when there is no such preset.
    """
    name = _find_option(arguments, "--preset") or DEFAULT_PRESET
    if name not in find_presets():
        raise UserError(
            f"There is no preset {name!r}{suggest(name, find_presets())}; choose one of "
            f"{', '.join(find_presets())}."
        )
    return choose_variant(name, _find_option(arguments, "--method") or method_of(name))


def _find_option(arguments: list[str], option: str) -> str | None:
    """The last value given to an option, before anything else is read."""
    value = None
    for number, argument in enumerate(arguments):
        if argument == option and number + 1 < len(arguments):
            value = arguments[number + 1]
        elif argument.startswith(f"{option}="):
            value = argument.removeprefix(f"{option}=")
    return value


def method_of(preset: str) -> str:
    """The method of a preset, by its name: "mae-small" is one of "mae", others of "slim"."""
    method = preset.split("-")[0]
    return method if method in METHODS else METHODS[0]


def choose_variant(preset: str, method: str) -> str:
    """The preset that has a preset's settings for a method: of "small" and "mae", "mae-small".

    Raises: UserError when there is none.
    """
    if method not in METHODS or method == method_of(preset):  # the parser refuses unknown ones
        return preset
    if (variant := f"{method}-{preset}") in find_presets():
        return variant
    known = ", ".join(name for name in find_presets() if method_of(name) == method)
    raise UserError(
        f"The preset {preset} has no variant for the method {method}; choose one of {known}."
    )


def build_parser(preset: str) -> CommandParser:
    """The command line, with the preset's values as defaults."""
    parser = CommandParser(
        prog=program_name("pretrain"),
        description="Pre-train an encoder by SLiM (arXiv 2603.10648), or by a masked autoencoder "
        "to compare with (--method mae). Every field can be set on the command line "
        "(--optim.learning_rate 1e-3), in a YAML file (--config) or by a preset. "
        f"Defaults shown are those of the preset {preset}; --preset NAME --help shows another's, "
        "--preset NAME --print-config prints them as YAML.",
        default_config_files=[str(find_presets()[preset])],
        print_config="--print-config",
    )
    parser.add_argument("--config", action="config", help="YAML file with fields to set.")
    settings = "Shipped settings that everything else is laid over."
    parser.add_argument("--preset", choices=list(find_presets()), default=preset, help=settings)
    parser.add_class_arguments(PretrainConfig, as_group=False)
    return parser


def parse(arguments: list[str], reference: str = "--help") -> PretrainConfig:
    """Arguments to a checked config; errors refer to `reference`.

    Raises: UserError for unknown or malformed fields and for values that cannot work.
    """
    arguments = list(_spell_out(arguments))
    preset = find_preset(arguments)
    values = build_parser(preset).parse(arguments, reference)
    if (chosen := choose_variant(values.preset, values.method)) != preset:  # by a --config file
        preset = chosen
        values = build_parser(preset).parse(arguments, reference)
    config = PretrainConfig(**{name: values[name] for name in PretrainConfig.__dataclass_fields__})
    config.out = config.out or str(Path("runs") / preset)
    config.check()
    return config


def _spell_out(arguments: list[str]) -> Iterator[str]:
    """`--batch auto` as the field that it means."""
    for number, word in enumerate(arguments):
        following = arguments[number + 1 : number + 2]
        if word == "--batch=auto" or (word == "--batch" and following == ["auto"]):
            yield "--fit_batch=true"
        elif not (word == "auto" and number and arguments[number - 1] == "--batch"):
            yield word


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run leaves in its folder."""

    folder: Path
    summary: dict[str, Any]
    """summary.json: accuracies (knn_top1, linear_top1, each also for a random encoder and for raw
    coordinates; None without labels), steps, seconds, samples_per_second, plots, ...
    """

    @property
    def encoder(self) -> Path:
        """Folder of the encoder, for `SLiMEncoder.from_pretrained`."""
        return self.folder / ENCODER

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl: losses, schedules and online accuracies by step."""
        return read_metrics(self.folder / METRICS)


def train(
    data: str | PathLike[str] | None = None,
    preset: str = DEFAULT_PRESET,
    out: str | PathLike[str] | None = None,
    *,
    progress: bool = False,
    **changes: Any,
) -> TrainingResult:
    """Train an encoder, as `python -m slim_fast.pretrain` does; the same call resumes.

    Args:
        data: a cache folder, or "synthetic"; None: the preset's.
        preset: the shipped settings that everything else is laid over.
        out: run folder; None: runs/PRESET.
        progress: print what the command prints; else nothing but warnings.
        changes: other fields of `PretrainConfig`, nested as dictionaries or by dotted names:
            steps=500, optim={"clip": 1.0}, **{"model.encoder.width": 64}.

    The run sets PyTorch's seed, and on Linux makes glibc keep freed memory.
    Raises: UserError for input that cannot work; KeyboardInterrupt once a run that was asked to
    stop (Ctrl-C, SIGTERM) has saved its state.
    """
    fields = {"preset": preset, **changes}
    fields.update({k: str(v) for k, v in (("data", data), ("out", out)) if v is not None})
    arguments = dict(list_options(fields))
    words = [f"--{name}={value}" for name, value in arguments.items()]
    known = build_parser(find_preset(words)).option_names()
    if unknown := [name for name in arguments if name not in known]:
        raise UserError(
            f"train() has no argument {unknown[0]!r}{suggest(unknown[0], known)}: it takes "
            f"{_FIELDS_OF_TRAIN}."
        )
    config, threads = parse(words, _FIELDS_OF_TRAIN), torch.get_num_threads()
    try:
        with progress_shown() if progress else nullcontext():
            summary = pretrain(config, load_initial_weights)
    except Interrupted as stop:
        raise KeyboardInterrupt(str(stop)) from stop
    finally:
        torch.set_num_threads(threads)
    return TrainingResult(Path(str(config.out)), summary)


def list_options(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Options of the command line for the fields, so that both are parsed and checked alike."""
    for name, value in fields.items():
        if is_dataclass(value) and not isinstance(value, type):
            value = asdict(value)
        if isinstance(value, Mapping):
            yield from list_options(value, f"{prefix}{name}.")
        elif isinstance(value, str | PathLike):
            yield prefix + name, str(value)
        else:
            yield prefix + name, json.dumps(value, default=asdict)


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    return run_training(lambda: run(words))


def run_training(command: Callable[[], None]) -> int:
    """Run a command that trains; returns its exit status, also that of a run that was stopped."""
    with pipe_safe_output():
        try:
            return run_command(command, lambda number: f"Stopped by {number.name}. {RESUMES}")
        except Interrupted as stop:
            if str(stop):  # else another process says it
                print(stop, file=sys.stderr)
            return stop.status


def run(arguments: list[str]) -> None:
    """What the command does. Raises: UserError for input that cannot work; Interrupted."""
    with progress_shown():
        pretrain(parse(arguments), load_initial_weights)


if __name__ == "__main__":
    sys.exit(run_process(main))
