"""python -m slim_fast.features RUN --data CACHE|FILES: features of clips, as a table."""

import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from jsonargparse import Namespace
from tqdm import tqdm

from slim_fast import __version__
from slim_fast.command import CommandParser, run_command, run_process
from slim_fast.data.clips import CHANNELS
from slim_fast.data.inspection import check_units, measure_geometry
from slim_fast.data.open_clips import open_clips
from slim_fast.data.readers import Options
from slim_fast.errors import UserError, program_name
from slim_fast.evaluation.feature_files import hash_encoder
from slim_fast.evaluation.feature_tables import check_table, make_columns, write_table
from slim_fast.evaluation.features import PEOPLE, extract_features
from slim_fast.evaluation.protocols.fusion import with_stream
from slim_fast.evaluation.windows import extract_windows
from slim_fast.interop.encoder import SLiMEncoder
from slim_fast.interop.transfer import match_to_cache
from slim_fast.model.streams import parse_streams
from slim_fast.skeletons import get_topology
from slim_fast.training.machine import choose_device


def build_parser() -> CommandParser:
    """The command line."""
    parser = CommandParser(
        prog=program_name("features"),
        description="Write an encoder's frozen features of clips, a row a clip: its name, label, "
        "class, subject and splits; features (CLS and mean patch of the last block, summed over "
        "people, which linear classifiers read) and retrieval (CLS and mean patch of each person, "
        "which neighbours are found by). Clips are prepared as in evaluation.",
    )
    source = "a run, an encoder folder, a .pth file, slim_fast/NAME, or owner/name[/subfolder] on "
    source += "Hugging Face"
    parser.add_argument("run", type=str, metavar="RUN", help=source)
    data = "a clip cache, a data set of a format that `data convert` knows, or .npy files of one "
    data += "clip (T, V, C[, M]) each"
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="CACHE", help=data)
    out = "file to write, .npz or .parquet"
    parser.add_argument("--out", type=Path, default=Path("features.npz"), metavar="FILE", help=out)
    known = "skeleton of files, a name or a JSON file; by default what they leave no doubt of"
    parser.add_argument("--topology", type=str, help=known)
    parser.add_argument("--channels", choices=CHANNELS, help="of files: what a joint's numbers are")
    scale = "of files: factor of coordinates, 0.001 for millimetres"
    parser.add_argument("--scale", type=float, default=1.0, help=scale)
    match = "carry the weights of another skeleton over to the clips' by the joints' names"
    parser.add_argument("--match-joints", action="store_true", help=match)
    people = "most people of a clip: those seen longest, then those who move most"
    parser.add_argument("--people", type=int, default=PEOPLE, help=people)
    stream = "streams that RUN reads, of joint,bone,motion, whose features stand side by side; by "
    stream += "default what it was trained on"
    parser.add_argument("--stream", type=str, help=stream)
    windows = "also write windows: the CLS tokens of nine overlapping windows of a clip, in turn, "
    windows += "which tell more than the others on small data sets; nine times the encoding"
    parser.add_argument("--windows", action="store_true", help=windows)
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda or auto")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Returns the process' exit status."""
    return run_command(
        lambda: run(build_parser().parse(arguments)), lambda _: "Stopped; nothing was written."
    )


def run(options: Namespace) -> None:
    """What the command does. Raises: UserError for input that does not fit."""
    check_table(options.out)
    if options.people < 1:
        raise UserError(f"people={options.people}: at least one person of a clip is needed.")
    for path in options.data:
        if not path.exists():
            raise UserError(f"{path} does not exist.")
    topology = get_topology(options.topology) if options.topology else None
    reading = Options(topology, options.channels, scale=options.scale)
    encoder = SLiMEncoder.from_pretrained(options.run).to(choose_device(options.device))
    with open_clips(options.data, reading) as (cache, problems):
        for problem in [*problems, *check_units(cache, measure_geometry(cache))]:
            warnings.warn(problem, stacklevel=1)
        encoder = match_to_cache(encoder, cache, options.match_joints)
        bar = partial(tqdm, desc="features", unit="batch", leave=False, disable=None)
        clips = np.arange(len(cache))
        streams = parse_streams(options.stream) if options.stream else (encoder.config.stream,)
        encoders = [with_stream(encoder, stream) for stream in streams]
        given = {"progress": bar, "people": options.people}
        features = [extract_features(one, cache, clips, **given) for one in encoders]
        windows = [
            extract_windows(one, cache, clips, **given)
            for one in (encoders if options.windows else ())
        ]
        columns = make_columns(cache, features, windows)
        about = {
            "run": options.run,
            "encoder": hash_encoder(encoder),
            "data": [str(path) for path in options.data],
            "skeleton": cache.topology.name,
            "channels": cache.channels,
            "frames": encoder.config.window,
            "people": options.people,
            "streams": streams,
            "slim_fast": __version__,
        }
        write_table(options.out, columns, about)
    width, size = columns["features"].shape[1], options.out.stat().st_size / 1e6
    print(f"{len(clips)} clips, {width} features each: {options.out} ({size:.1f} MB)")


if __name__ == "__main__":
    sys.exit(run_process(main))
