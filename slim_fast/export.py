"""python -m slim_fast.export RUN --to onnx|torch-export|web: encoders and classifiers as files."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jsonargparse import Namespace

from slim_fast.command import CommandParser, run_command, run_process
from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError, program_name
from slim_fast.evaluation.probe import select_labelled_clips
from slim_fast.interop.checkpoints.probes import read_with_probe
from slim_fast.interop.checkpoints.read import read_checkpoint
from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.interop.export import OPSET, ExportedFile, export_onnx, export_torch
from slim_fast.interop.transfer import match_to_cache
from slim_fast.interop.web import WebPage, read_runtime, write_web_page

ENDINGS = {"onnx": ".onnx", "torch-export": ".pt2", "web": ".html"}
MOST_CLIPS = 6  # that a page shows when none are named


def build_parser() -> CommandParser:
    """The command line."""
    parser = CommandParser(
        prog=program_name("export"),
        description="Write an encoder, or a classifier with its head, to one file that runs "
        "without slim_fast: ONNX, a torch.export program, or for a classifier a web page that runs "
        "it in the browser on recorded clips. Number of clips, frames (a multiple of 8) and people "
        "stay free; the outputs are compared with the model's before the file gets its name.",
    )
    source = "folder of a run, encoder or classifier, a .pth file, or owner/name on Hugging Face"
    parser.add_argument("run", type=str, metavar="RUN", help=source)
    parser.add_argument("--to", choices=list(ENDINGS), required=True, help="kind of file")
    out = "file to write; by default encoder or classifier, .onnx, .pt2 or .html, in RUN's folder"
    parser.add_argument("--out", type=Path, metavar="FILE", help=out)
    opset = f"ONNX opset, 17 or newer, {OPSET} by default; from 23 on attention is one operation"
    parser.add_argument("--opset", type=int, help=opset)
    probe = "linear probe beside RUN that makes a classifier of it: best, or a classifier's name"
    parser.add_argument("--probe", type=str, metavar="NAME", help=probe)
    joints = "carry the weights over by the joints' names to a topology, its name or .json file"
    parser.add_argument("--match-joints", type=str, metavar="SKELETON", help=joints)
    channels = "of --match-joints: xyz, xy, xyzc or xyc; the encoder's by default"
    parser.add_argument("--channels", type=str, help=channels)
    data = "of --to web: cache with the clips that the page shows"
    parser.add_argument("--data", type=Path, metavar="CACHE", help=data)
    clips = f"of --to web: clips; by default test clips of the first {MOST_CLIPS} classes"
    parser.add_argument("--clips", type=str, nargs="+", metavar="NAME_OR_NUMBER", help=clips)
    runtime = "of --to web: npm's package onnxruntime-web, its .tgz or folder"
    parser.add_argument("--runtime", type=Path, metavar="PACKAGE", help=runtime)
    parser.add_argument(
        "--no-check", action="store_true", help="do not compare the outputs (needs no onnxruntime)"
    )
    return parser


def load(source: str, probe: str | None = None) -> SLiMEncoder:
    """The classifier that `source` holds, or makes with a probe, or else its encoder."""
    checkpoint = read_with_probe(source, probe) if probe else read_checkpoint(source)
    kind = SLiMClassifier if "num_classes" in checkpoint.about.more else SLiMEncoder
    return kind.from_pretrained(checkpoint)


def default_out(source: str, model: SLiMEncoder, to: str) -> Path:
    """Beside the weights, or for a name on Hugging Face in the current folder."""
    path = Path(source)
    folder = path if path.is_dir() else path.parent if path.is_file() else Path()
    return folder / (
        ("classifier" if isinstance(model, SLiMClassifier) else "encoder") + ENDINGS[to]
    )


def show(exported: ExportedFile) -> None:
    """What was written, on stdout."""
    print(f"{exported.path} ({exported.path.stat().st_size / 1e6:.1f} MB)")
    for name, axes in exported.axes.items():
        error = f"off by at most {exported.errors[name]:.1e}" if name in exported.errors else ""
        print(f"  {name:<10}{'(' + ', '.join(map(str, axes)) + ')':<24}{error}".rstrip())
    print(
        "Errors are relative to an output's largest value."
        if exported.errors
        else "The outputs were not compared."
    )


def export_page(
    options: Namespace, model: SLiMEncoder, out: Path, report: Callable[[str], None]
) -> WebPage:
    """Write the web page. Raises: UserError."""
    if not isinstance(model, SLiMClassifier):
        raise UserError(
            f"{options.run} holds an encoder without classes, which a page shows: fit them with "
            "slim-fast stream --save-classifier, or fine-tune it."
        )
    runtime, cache = read_runtime(options.runtime), ClipCache.open(options.data)
    model = match_to_cache(model, cache, bool(options.match_joints))
    if options.clips:
        clips = [cache.find(name) for name in options.clips]
    else:
        test = select_labelled_clips(cache)[1]
        firsts = np.unique(cache.label[test], return_index=True)[1]
        clips = test[firsts[:MOST_CLIPS]].tolist()
    verify = not options.no_check
    return write_web_page(model, cache, clips, out, runtime, verify=verify, report=report)


def show_page(page: WebPage) -> None:
    """What was written, on stdout."""
    parts = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in page.sizes.items())
    print(
        f"{page.path} ({page.path.stat().st_size / 1e6:.1f} MB: {parts}); it needs no other file."
    )


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    return run_command(
        lambda: run(build_parser().parse(arguments)), lambda _: "Stopped; nothing was written."
    )


def run(options: Namespace) -> None:
    """What the command does. Raises: UserError for input that does not fit."""

    def report(step: str) -> None:
        print(step, file=sys.stderr)

    if options.opset is not None and options.to != "onnx":
        raise UserError("--opset is for --to onnx: leave it out.")
    if options.channels and not options.match_joints:
        raise UserError("--channels is for --match-joints: leave it out.")
    for name in ("data", "clips", "runtime"):
        if (getattr(options, name) is None) < (options.to != "web"):
            raise UserError(f"--{name} is for --to web: leave it out.")
    if options.to == "web" and options.data is None:
        raise UserError("--to web needs --data CACHE, with the clips that the page shows.")
    model = load(options.run, options.probe)
    if options.match_joints:
        model = model.to_skeleton(options.match_joints, options.channels)
    out, verify = options.out or default_out(options.run, model, options.to), not options.no_check
    if options.to == "web":
        show_page(export_page(options, model, out, report))
    elif options.to == "onnx":
        show(export_onnx(model, out, opset=options.opset or OPSET, verify=verify, report=report))
    else:
        show(export_torch(model, out, verify=verify, report=report))


if __name__ == "__main__":
    sys.exit(run_process(main))
