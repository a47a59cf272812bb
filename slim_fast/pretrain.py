"""python -m slim_fast.pretrain: train a SLiM encoder on skeleton clips."""

import signal
import sys
from importlib import resources
from pathlib import Path
from types import FrameType

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from slim_fast.errors import UserError
from slim_fast.training.config import PretrainConfig
from slim_fast.training.run import Interrupted, pretrain

DEFAULT_PRESET = "demo"
RESUMES = "The same command resumes from the last checkpoint, if one was written."
set_parsing_settings(docstring_parse_attribute_docstrings=True)  # --help says what stands below each field


def presets() -> dict[str, Path]:
    """The shipped presets: name -> YAML file."""
    folder = Path(str(resources.files("slim_fast"))) / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def preset_of(arguments: list[str]) -> str:
    """The preset that the arguments name.

    Raises: UserError when there is no such preset.
    """
    name = DEFAULT_PRESET
    for place, argument in enumerate(arguments):
        if argument == "--preset" and place + 1 < len(arguments):
            name = arguments[place + 1]
        elif argument.startswith("--preset="):
            name = argument.removeprefix("--preset=")
    if name not in presets():
        raise UserError(f"There is no preset {name!r}; choose one of {', '.join(presets())}.")
    return name


def build_parser(preset: str) -> ArgumentParser:
    """The command line, with the preset's values as defaults."""
    parser = ArgumentParser(
        prog="python -m slim_fast.pretrain",
        description="Pre-train a SLiM encoder (arXiv 2603.10648). Every field can be set on the command line "
        "(--optim.learning_rate 1e-3), in a YAML file (--config) or by a preset.",
        default_config_files=[str(presets()[preset])],
        print_config="--print-config",
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="YAML file with fields to set.")
    parser.add_argument(
        "--preset", choices=list(presets()), default=preset, help="Shipped settings that everything else is laid over."
    )
    parser.add_class_arguments(PretrainConfig, as_group=False)
    return parser


def parse(arguments: list[str]) -> PretrainConfig:
    """Arguments to a checked config.

    Raises: UserError for unknown or malformed fields and for values that cannot work.
    """
    preset = preset_of(arguments)
    values = _values(preset, arguments)
    if values.preset != preset:  # a --config file names it
        preset = values.preset
        values = _values(preset, arguments)
    config = PretrainConfig(**{name: values[name] for name in PretrainConfig.__dataclass_fields__})
    config.out = config.out or str(Path("runs") / preset)
    config.check()
    return config


def _values(preset: str, arguments: list[str]) -> Namespace:
    parser = build_parser(preset)
    try:
        return parser.instantiate(parser.parse_args(arguments))
    except ArgumentError as error:
        raise UserError(f"{' '.join(str(error).split())}. See --help.") from error


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    try:
        pretrain(parse(sys.argv[1:] if arguments is None else arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        print(f"Stopped by SIGINT. {RESUMES}", file=sys.stderr)
        return 130
    return 0


def _terminate(number: int, _: FrameType | None) -> None:
    print(f"Stopped by {signal.Signals(number).name}. {RESUMES}", file=sys.stderr)
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)  # while training, the run's own handler saves its state first
    sys.exit(main())
