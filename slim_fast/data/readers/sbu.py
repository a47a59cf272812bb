"""SBU Kinect Interaction as distributed: a folder of skeleton_pos.txt, one a clip of two people.

sNNsMM/CC/RRR/skeleton_pos.txt (the two subjects, class, repetition) has for each frame a line of
its number and the x, y, z of the 15 joints of two people, normalised by the image's size. Undone
with the formulas of the data set's README they are metres, y up. The five folds of its
cross-validation (Yun et al. 2012) are the splits "sbu-fold1" to "sbu-fold5"; each tests on one.
"""

import re
from pathlib import Path

import numpy as np
from einops import rearrange

from slim_fast.data.clips import Clip
from slim_fast.data.readers.files import list_files, read_table, some_file
from slim_fast.data.readers.recordings import Recording, read_recordings
from slim_fast.data.readers.source import Options, Problem, Reader, Source
from slim_fast.skeletons import get_topology

FILE = "skeleton_pos.txt"
PLACE = re.compile(r"s(\d{2})s(\d{2})[/\\](\d{2})[/\\](\d{3})[/\\]skeleton_pos\.txt$", re.I)
JOINTS, PEOPLE, CLASSES = 15, 2, 8
FOLDS = (
    ("s01s02", "s03s04", "s05s02", "s06s04"),
    ("s02s03", "s02s07", "s03s05", "s05s03"),
    ("s01s03", "s01s07", "s07s01", "s07s03"),
    ("s02s01", "s02s06", "s03s02", "s03s06"),
    ("s04s02", "s04s03", "s04s06", "s06s02", "s06s03"),
)
# metres = OFFSET + FACTOR * normalised; its README has x = 1280 - 2560 n, y = 960 - 1920 n and
# z = 10000 n / 7.8125, in millimetres
OFFSET = np.array([1.28, 0.96, 0.0])
FACTOR = np.array([-2.56, -1.92, 1.28])


def read_positions(recording: Recording) -> Clip:
    """Read the clip of a skeleton_pos.txt. Raises: OSError, UserError when there is none."""
    table = read_table(recording.files[0], 1 + PEOPLE * JOINTS * 3, delimiter=",")
    joints = rearrange(table[:, 1:], "t (m v c) -> t v m c", m=PEOPLE, v=JOINTS)
    undetected = ~(joints != 0).any(axis=-1, keepdims=True)
    metres = np.where(undetected, 0, OFFSET + FACTOR * joints)
    return recording.clip(rearrange(metres, "t v m c -> t v c m"))


def _describe(file: Path) -> Recording:
    match = PLACE.search(str(file))
    if match is None:  # a lone file
        return Recording((file,), file.parent.name)
    one, other, kind, repetition = match.groups()
    pair = f"s{one}s{other}"
    split = {
        f"sbu-fold{number}": "test" if pair in fold else "train"
        for number, fold in enumerate(FOLDS, 1)
    }
    known = pair in {pair for fold in FOLDS for pair in fold}
    label = int(kind) - 1 if 1 <= int(kind) <= CLASSES else -1
    name = f"{pair}_{kind}_{repetition}"
    return Recording((file,), name, label, int(one), split=split if known else {})


def _get_key(file: Path) -> str:
    return _describe(file).name if PLACE.search(str(file)) else str(file)


def _recognises(path: Path) -> bool:
    return some_file(path, FILE, lambda file: file.name.lower() == FILE)


def _read(path: Path, options: Options) -> Source:
    """Classes are named by their folders' numbers."""
    problems: list[Problem] = []
    files = list_files(path.absolute(), FILE, problems, _get_key)
    return Source(
        options.topology or get_topology("sbu-15"),
        options.channels or "xyz",
        read_recordings(list(map(_describe, files.values())), read_positions, options, problems),
        tuple(f"{number:02d}" for number in range(1, CLASSES + 1)),
        len(files),
        problems,
    )


READER = Reader("a folder of SBU's sNNsMM/CC/RRR/skeleton_pos.txt", _recognises, _read)
