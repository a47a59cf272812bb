"""python -m slim_fast.weights verify|manifest|show: weights on disk and on Hugging Face."""

from pathlib import Path

from jsonargparse import Namespace

from slim_fast.command import CommandParser, run_command
from slim_fast.errors import UserError, program_name

_SOURCE = "slim_fast/NAME of the package, owner/name on Hugging Face, or a folder"


def verify_command(options: Namespace) -> None:
    """Compare every file with its checksum. Raises: UserError when one is not as recorded."""
    from slim_fast.interop.checkpoints.checksums import verify_folder

    folder = find(options)
    verdicts = verify_folder(folder, options.manifest)
    width = max(len(verdict.name) for verdict in verdicts)
    for verdict in verdicts:
        print(f"{verdict.name.ljust(width)}  {verdict.state}")
    wrong = [v for v in verdicts if v.state in ("differs", "missing")]
    if wrong:
        named = ", ".join(f"{verdict.name} ({verdict.state})" for verdict in wrong)
        raise UserError(f"{folder} is not what was recorded: {named}; copy or download it again.")
    print(f"{sum(v.state == 'as recorded' for v in verdicts)} files of {folder} are as recorded.")


def manifest_command(options: Namespace) -> None:
    """Write SHA256SUMS into a folder."""
    from slim_fast.interop.checkpoints.checksums import read_manifest, write_manifest

    if not options.source.is_dir():
        raise UserError(f"There is no folder {options.source}.")
    path = write_manifest(options.source)
    print(f"{path} ({len(read_manifest(path))} files)")


def show_command(options: Namespace) -> None:
    """Print what weights are: sizes, skeleton, probes, and what their card says."""
    from slim_fast.interop.checkpoints.describe import describe_weights

    print(describe_weights(find(options)))


def find(options: Namespace) -> Path:
    """The folder of the weights, downloaded with probes, card and checksums if need be."""
    from slim_fast.interop.checkpoints.checksums import SUMS
    from slim_fast.interop.checkpoints.hub import split_name
    from slim_fast.interop.checkpoints.model_card import CARD
    from slim_fast.interop.checkpoints.probes import probe_patterns
    from slim_fast.interop.checkpoints.read import find_folder

    _, inside = split_name(options.source, options.subfolder)
    more = [f"{inside}/{name}".lstrip("/") for name in (CARD, SUMS)] + [CARD]
    more += probe_patterns(inside)
    folder = find_folder(options.source, options.subfolder, options.revision, more=more)
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.")
    return folder


def build_parser() -> CommandParser:
    """The command line, one parser a subcommand."""
    verify, show = CommandParser(), CommandParser()
    for parser in (verify, show):
        parser.add_argument("source", type=str, metavar="NAME", help=_SOURCE)
        parser.add_argument("--subfolder", type=str, help="of the repository or folder")
        parser.add_argument("--revision", type=str, help="of the repository")
    listed = "checksums as sha256sum writes them; by default the folder's SHA256SUMS, and for a "
    listed += "download those that Hugging Face gave with its files"
    verify.add_argument("--manifest", type=Path, metavar="FILE", help=listed)
    manifest = CommandParser()
    manifest.add_argument("source", type=Path, metavar="FOLDER", help="folder of weights")

    parser = CommandParser(
        prog=program_name("weights"), description="Look after pretrained weights."
    )
    commands = parser.add_subcommands(metavar="COMMAND")
    commands.add_subcommand("verify", verify, help="compare all files with their checksums")
    commands.add_subcommand("manifest", manifest, help="write SHA256SUMS of a folder's files")
    commands.add_subcommand("show", show, help="sizes, skeleton, probes, and the model card")
    return parser


COMMANDS = {"verify": verify_command, "manifest": manifest_command, "show": show_command}


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""

    def run() -> None:
        options = build_parser().parse(arguments)
        COMMANDS[options.subcommand](options[options.subcommand])

    return run_command(run)
