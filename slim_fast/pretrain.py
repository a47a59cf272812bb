"""python -m slim_fast.pretrain: train a SLiM encoder on skeleton clips."""

import sys
from importlib import resources
from pathlib import Path

from jsonargparse import ArgumentParser

from slim_fast.errors import UserError
from slim_fast.training.config import PretrainConfig
from slim_fast.training.run import Interrupted, pretrain

DEFAULT_PRESET = "demo"


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
    )
    parser.add_argument("--config", action="config", help="YAML file with fields to set.")
    parser.add_argument(
        "--preset", choices=list(presets()), default=preset, help="Shipped settings that everything else is laid over."
    )
    parser.add_class_arguments(PretrainConfig, as_group=False)
    return parser


def parse(arguments: list[str]) -> PretrainConfig:
    """Arguments to a checked config. Exits with status 2 on unknown or malformed fields."""
    preset = preset_of(arguments)
    parser = build_parser(preset)
    namespace = parser.parse_args(arguments)
    values = parser.instantiate(namespace)
    fields = {name: values[name] for name in PretrainConfig.__dataclass_fields__}
    config = PretrainConfig(**fields)
    config.out = config.out or str(Path("runs") / preset)
    config.check()
    return config


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
        print("Stopped. The same command resumes from the last checkpoint, if one was written.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
