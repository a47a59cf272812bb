"""UTD-MHAD as distributed: a folder of MATLAB files, one a clip.

A file aXX_sYY_tZZ_skeleton.mat (action, subject, repetition) holds d_skel (20, 3, T): the joints of
a Kinect v1, in metres. Of split "xsub" odd subjects are for training (Chen et al. 2015).
"""

import re
from pathlib import Path

from einops import rearrange

from slim_fast.data.clips import Clip
from slim_fast.data.readers.files import list_files, read_bytes, some_file
from slim_fast.data.readers.matlab import read_matlab_frames
from slim_fast.data.readers.recordings import Recording, read_recordings
from slim_fast.data.readers.source import Options, Problem, Reader, Source
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology

NAME = re.compile(r"a(\d+)_s(\d+)_t(\d+)_skeleton", re.IGNORECASE | re.ASCII)
VARIABLE, JOINTS = "d_skel", 20
ACTIONS = tuple(
    """\
swipe left|swipe right|wave|clap|throw|arms cross|basketball shoot|draw X|draw circle clockwise|
draw circle counter-clockwise|draw triangle|bowling|boxing|baseball swing|tennis swing|arm curl|
tennis serve|push|knock|catch|pick up and throw|jog|walk|sit to stand|stand to sit|lunge|squat
""".replace("\n", "").split("|")
)


def read_mat(recording: Recording) -> Clip:
    """Read the clip of a .mat file. Raises: OSError, UserError when there is none."""
    if recording.label < 0:
        raise UserError(f"action outside a1..a{len(ACTIONS)}")
    content = read_bytes(recording.files[0])
    if not content:
        raise UserError("an empty file")
    joints = read_matlab_frames(content, VARIABLE, JOINTS, 3)
    return recording.clip(rearrange(joints.astype("f4"), "v c t -> t v c 1"))


def _describe(file: Path) -> Recording:
    match = NAME.fullmatch(file.stem)
    assert match is not None
    action, subject, _ = map(int, match.groups())
    label = action - 1 if 1 <= action <= len(ACTIONS) else -1
    split = {"xsub": "train" if subject % 2 else "test"}
    return Recording((file,), file.stem.removesuffix("_skeleton"), label, subject, split=split)


def _get_key(file: Path) -> str | None:
    return file.stem.lower() if NAME.fullmatch(file.stem) else None


def _recognises(path: Path) -> bool:
    return some_file(path, "_skeleton.mat", lambda file: _get_key(file) is not None)


def _read(path: Path, options: Options) -> Source:
    problems: list[Problem] = []
    files = list_files(path, "_skeleton.mat", problems, _get_key)
    return Source(
        options.topology or get_topology("utd-mhad-20"),
        options.channels or "xyz",
        read_recordings(list(map(_describe, files.values())), read_mat, options, problems),
        ACTIONS,
        len(files),
        problems,
    )


READER = Reader("a folder of UTD-MHAD's aXX_sYY_tZZ_skeleton.mat", _recognises, _read)
