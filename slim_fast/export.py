"""python -m slim_fast.export RUN --to onnx|torch-export: a trained encoder or classifier as one file that runs without
slim_fast.
"""

import argparse
import sys
from pathlib import Path

from slim_fast.errors import UserError
from slim_fast.interop.checkpoint import read_checkpoint
from slim_fast.interop.classifier import SLiMClassifier
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.interop.exporting import OPSET, Exported, export_onnx, export_torch

ENDINGS = {"onnx": ".onnx", "torch-export": ".pt2"}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m slim_fast.export",
        description="Write an encoder, or a classifier with its head, to one file that runs without slim_fast: ONNX, "
        "or a torch.export program. Number of clips, frames (a multiple of 8) and people stay free; the answers are "
        "compared with the model's before the file gets its name.",
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        help="a finished run's folder, an encoder's or classifier's folder, a .pth file, or owner/name on Hugging Face",
    )
    parser.add_argument("--to", choices=list(ENDINGS), required=True, help="kind of file")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write (encoder or classifier, .onnx or .pt2, in RUN's folder)"
    )
    parser.add_argument(
        "--opset", type=int, help=f"ONNX opset (default {OPSET}; from 23 on attention is one operation)"
    )
    parser.add_argument("--no-check", action="store_true", help="do not compare the answers (needs no onnxruntime)")
    return parser


def load(source: str) -> SLiMEncoder:
    """The classifier that `source` holds, or else its encoder."""
    kind = SLiMClassifier if "num_classes" in read_checkpoint(source).about.more else SLiMEncoder
    return kind.from_pretrained(source)


def default_out(source: str, model: SLiMEncoder, to: str) -> Path:
    """Beside the weights, or for a name on Hugging Face in the current folder."""
    path = Path(source)
    folder = path if path.is_dir() else path.parent if path.is_file() else Path()
    return folder / (("classifier" if isinstance(model, SLiMClassifier) else "encoder") + ENDINGS[to])


def show(exported: Exported) -> None:
    """What was written, on stdout."""
    print(f"{exported.path} ({exported.path.stat().st_size / 1e6:.1f} MB)")
    for name, axes in exported.axes.items():
        error = f"off by at most {exported.errors[name]:.1e}" if name in exported.errors else ""
        print(f"  {name:<10}{'(' + ', '.join(map(str, axes)) + ')':<24}{error}".rstrip())
    print("Errors are relative to an output's largest value." if exported.errors else "The answers were not compared.")


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    options = build_parser().parse_args(arguments)

    def report(step: str) -> None:
        print(step, file=sys.stderr)

    try:
        if options.opset is not None and options.to != "onnx":
            raise UserError("--opset is for --to onnx: leave it out.")
        model = load(options.run)
        out, verify = options.out or default_out(options.run, model, options.to), not options.no_check
        if options.to == "onnx":
            exported = export_onnx(model, out, opset=options.opset or OPSET, verify=verify, report=report)
        else:
            exported = export_torch(model, out, verify=verify, report=report)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; nothing was written.", file=sys.stderr)
        return 130
    show(exported)
    return 0


if __name__ == "__main__":
    sys.exit(main())
