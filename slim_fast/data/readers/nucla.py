"""N-UCLA as GCN code bases distribute it: a folder of JSON files, one a clip.

A file aXX_sYY_eZZ_vVV.json (action, subject, repetition, view) holds "skeletons": for each frame
the x, y, z, in metres, of the 20 joints of a Kinect v1. Of split "nucla-xview" views 1 and 2 are
for training, view 3 for testing (Wang et al. 2014).
"""

import re
from pathlib import Path

from slim_fast.data.clips import Clip
from slim_fast.data.readers.files import list_files, read_json, some_file, to_array
from slim_fast.data.readers.recordings import Recording, read_recordings
from slim_fast.data.readers.source import Options, Problem, Reader, Source
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology

NAME = re.compile(r"a(\d+)_s(\d+)_e(\d+)_v(\d+)", re.IGNORECASE | re.ASCII)
JOINTS, TRAIN_VIEWS = 20, (1, 2)
# number in a file's name -> action; 7 and 10 are not in the data set
ACTIONS = {
    1: "pick up with one hand",
    2: "pick up with two hands",
    3: "drop trash",
    4: "walk around",
    5: "sit down",
    6: "stand up",
    8: "donning",
    9: "doffing",
    11: "throw",
    12: "carry",
}


def read_json_clip(recording: Recording) -> Clip:
    """Read the clip of a JSON file. Raises: OSError, UserError when there is none."""
    if recording.label < 0:
        raise UserError(f"an action that is none of {', '.join(map(str, ACTIONS))}")
    content = read_json(recording.files[0])
    if not isinstance(content, dict) or "skeletons" not in content:
        raise UserError("no object with 'skeletons'")
    frames = to_array(content["skeletons"], None, JOINTS, 3)
    return recording.clip(frames[..., None])


def _describe(file: Path) -> Recording:
    match = NAME.fullmatch(file.stem)
    assert match is not None
    action, subject, _, view = map(int, match.groups())
    label = list(ACTIONS).index(action) if action in ACTIONS else -1
    split = {"nucla-xview": "train" if view in TRAIN_VIEWS else "test"}
    return Recording((file,), file.stem, label, subject, view, split=split)


def _get_key(file: Path) -> str | None:
    return file.stem.lower() if NAME.fullmatch(file.stem) else None


def _recognises(path: Path) -> bool:
    return some_file(path, ".json", lambda file: _get_key(file) is not None)


def _read(path: Path, options: Options) -> Source:
    problems: list[Problem] = []
    files = list_files(path, ".json", problems, _get_key)
    return Source(
        options.topology or get_topology("kinect-v1-20"),
        options.channels or "xyz",
        read_recordings(list(map(_describe, files.values())), read_json_clip, options, problems),
        tuple(ACTIONS.values()),
        len(files),
        problems,
    )


READER = Reader("a folder of N-UCLA's aXX_sYY_eZZ_vVV.json", _recognises, _read)
