"""slim-fast, or python -m slim_fast: every command of the package as a subcommand."""

import sys
from importlib import import_module

from slim_fast import __version__
from slim_fast.command import CommandParser, run_command, run_process
from slim_fast.errors import program_name

# name -> its module, which is imported when it is called, and what it does
COMMANDS = {
    "pretrain": ("slim_fast.pretrain", "train an encoder on skeleton clips"),
    "evaluate": ("slim_fast.evaluate", "accuracy of an encoder, frozen and fine-tuned"),
    "features": ("slim_fast.features", "an encoder's features of clips, as a table"),
    "ablate": ("slim_fast.ablate", "the paper's ablations, as a table with its spread"),
    "report": ("slim_fast.report", "what a run has learned, as a page of moving skeletons"),
    "export": ("slim_fast.export", "write an encoder or classifier as ONNX or torch.export"),
    "stream": ("slim_fast.stream", "play a recorded clip frame by frame, as a film"),
    "watch": ("slim_fast.watch", "what people in a video or in files of poses do"),
    "weights": ("slim_fast.weights.cli", "check and describe pretrained weights"),
    "data": ("slim_fast.data.cli", "convert, inspect and generate data sets"),
}


def build_parser() -> CommandParser:
    """The command line, up to the name of the subcommand."""
    parser = CommandParser(description="Self-supervised learning on human skeletons.")
    parser.prog = program_name("").rstrip(" .")
    parser.add_argument("--version", action="version", version=f"slim-fast {__version__}")
    subcommands = parser.add_subcommands(metavar="COMMAND")
    for name, (_, summary) in COMMANDS.items():
        subcommands.add_subcommand(name, CommandParser(), help=summary)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    chosen: list[str] = []
    status = run_command(lambda: chosen.append(build_parser().parse(words[:1]).subcommand))
    if not chosen:
        return status
    module = import_module(COMMANDS[chosen[0]][0])
    return int(module.main(list(words[1:])))


def start() -> int:
    """The console command."""
    return run_process(main)


if __name__ == "__main__":
    sys.exit(start())
