"""PKU-MMD I and II as distributed: long sequences as text files, and label files to cut them by.

A sequence's file has 150 numbers a line, the x, y, z, in metres, of the 25 joints of two people
(the second all zero when there is one). The label file of the same name, in another folder, has a
line "class,first frame,last frame,confidence" for each action; classes count from 1, frames from 0.
Split files list sequences of "Training videos:" and "Validataion videos:" (Liu et al. 2017). Where
one is found, it gives "pku-mmd-1-xsub", "pku-mmd-1-xview", or the same of phase 2.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from einops import rearrange

from slim_fast.data.clips import Clip
from slim_fast.data.readers.files import find_files, list_files, read_table, read_text, some_file
from slim_fast.data.readers.recordings import Recording, read_recordings
from slim_fast.data.readers.source import Options, Problem, Reader, Source
from slim_fast.errors import UserError
from slim_fast.skeletons import get_topology

SEQUENCE = re.compile(r"\d{4}-([LMR])|A\d+N\d+-([LMR])", re.IGNORECASE | re.ASCII)
SPLIT = re.compile(r"cross[-_ ]?(subject|view).*", re.IGNORECASE)
HEADING = re.compile(r"(train|valid|test)\w* videos *:", re.IGNORECASE)  # they misspell validation
CAMERAS = "LMR"
JOINTS, PEOPLE = 25, 2
NUMBERS = JOINTS * 3 * PEOPLE
ACTIONS = tuple(
    """\
bow|brushing hair|brushing teeth|check time (from watch)|cheer up|clapping|
cross hands in front (say stop)|drink water|drop|eat meal/snack|falling|
giving something to other person|hand waving|handshaking|hopping (one foot jumping)|
hugging other person|jump up|kicking other person|kicking something|
make a phone call/answer phone|pat on back of other person|pickup|playing with phone/tablet|
point finger at the other person|pointing to something with finger|
punching/slapping other person|pushing other person|put on a hat/cap|put something inside pocket|
reading|rub two hands together|salute|sitting down|standing up|take off a hat/cap|
take off glasses|take off jacket|take out something from pocket|taking a selfie|tear up paper|
throw|touch back (backache)|touch chest (stomachache/heart pain)|touch head (headache)|
touch neck (neckache)|typing on a keyboard|use a fan (with hand or paper)/feeling warm|
wear jacket|wear on glasses|wipe face|writing
""".replace("\n", "").split("|")
)


def read_sequence(recording: Recording) -> list[Clip | Problem]:
    """Read the clips of a sequence; `files` are the sequence's and the label file.

    Actions of another class, or outside the sequence, are problems.
    Raises: OSError, UserError when a file cannot be read.
    """
    if len(recording.files) == 1:
        raise UserError("a sequence without a label file")
    sequence, labels = recording.files
    actions = read_labels(labels)
    table = read_table(sequence, NUMBERS)
    frames = rearrange(table, "t (m v c) -> t v c m", m=PEOPLE, v=JOINTS)
    results: list[Clip | Problem] = []
    for number, (action, first, last) in enumerate(actions):
        name = f"{recording.name}_{number:03d}"
        if not 1 <= action <= len(ACTIONS):
            results.append(Problem(name, f"class outside 1..{len(ACTIONS)}"))
        elif not 0 <= first <= last or first >= len(frames):
            results.append(Problem(name, "an action outside its sequence"))
        else:
            positions = frames[first : last + 1]
            camera, split = recording.camera, recording.split
            results.append(Clip(positions, name, action - 1, camera=camera, split=split))
    return results


def read_labels(file: Path) -> list[tuple[int, int, int]]:
    """(class, first frame, last frame) of each line. Raises: OSError, UserError."""
    actions = []
    for line in read_text(file).splitlines():
        if line.strip():
            try:
                action, first, last = map(int, line.split(",")[:3])
            except ValueError as error:
                raise UserError(
                    "a label file with a line that is not class,begin,end,confidence"
                ) from error
            actions.append((action, first, last))
    return actions


def read_split(file: Path) -> dict[str, str]:
    """Sequence name in capitals -> "train" or "test". Raises: OSError, UserError."""
    parts = HEADING.split(read_text(file))[1:]  # heading, names, heading, names
    subsets = {
        name.strip().upper(): "train" if heading.lower() == "train" else "test"
        for heading, names in zip(parts[::2], parts[1::2], strict=True)
        for name in re.split(r"[,\s]+", names)
        if name.strip()
    }
    if not subsets:
        raise UserError(f"{file} names no sequences: 'Training videos:' and a list were expected")
    return subsets


def find_phase(name: str) -> int:
    """The phase, 1 or 2, that a sequence or clip of that name is of; 0 for other names."""
    match = SEQUENCE.match(name)
    return 0 if match is None else 1 if match[1] else 2


def _is_sequence(file: Path) -> bool:
    with open(file, "rb") as opened:
        return len(opened.readline(1 << 16).split()) == NUMBERS


def _get_key(file: Path) -> str | None:
    # the sequence and its label file have the same name
    if not SEQUENCE.fullmatch(file.stem):
        return None
    try:
        return f"{file.stem.upper()} {'sequence' if _is_sequence(file) else 'labels'}"
    except OSError:
        return f"{file.stem.upper()} sequence"  # reading it says why


def _count_lines(recording: Recording) -> int:
    try:
        return len(recording.files[1].read_bytes().splitlines())
    except (IndexError, OSError):
        return 0


def _recognises(path: Path) -> bool:
    return path.is_dir() and some_file(
        path, ".txt", lambda file: SEQUENCE.fullmatch(file.stem) is not None
    )


def _find_splits(
    path: Path, names: Iterable[str], problems: list[Problem]
) -> Mapping[str, Mapping[str, str]]:
    # sequence -> split -> subset
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    # cross-subject first: a cache's first split is its default
    for file in sorted(find_files(path, ".txt"), key=lambda file: (file.name.lower(), file)):
        if match := SPLIT.fullmatch(file.stem):
            axis = "xsub" if match[1].lower() == "subject" else "xview"
            for name, subset in read_split(file).items():
                if name in found:
                    found[name][f"pku-mmd-{find_phase(name)}-{axis}"] = subset
                else:
                    problem = f"in {file.name}, but no such sequence is here"
                    problems.append(Problem(name, problem, is_recording=False))
    return found


def _read(path: Path, options: Options) -> Source:
    problems: list[Problem] = []
    files = list_files(path, ".txt", problems, _get_key)
    by_name: dict[str, dict[str, Path]] = {}
    for key, file in files.items():
        name, kind = key.split()
        by_name.setdefault(name, {})[kind] = file
    unpaired = [name for name, both in by_name.items() if "sequence" not in both]
    problems += [Problem(name, "labels without a sequence") for name in unpaired]
    sequences = {name: both for name, both in by_name.items() if "sequence" in both}
    splits = _find_splits(path, sequences, problems)
    recordings = [
        Recording(
            tuple(both[kind] for kind in ("sequence", "labels") if kind in both),
            name,
            camera=CAMERAS.index(name[-1]) + 1,
            split=splits[name],
        )
        for name, both in sequences.items()
    ]
    without = Counter(bool(splits[name]) for name in sequences)[False]
    warnings = [
        f"{without} of {len(sequences)} sequences are in no split: put cross-subject.txt and "
        f"cross-view.txt of the data set below {path}"
    ] * (without > 0)
    return Source(
        options.topology or get_topology("ntu-25"),
        options.channels or "xyz",
        read_recordings(recordings, read_sequence, options, problems),
        ACTIONS,
        sum(map(_count_lines, recordings)),
        problems,
        warnings,
    )


READER = Reader("a folder of PKU-MMD's sequences and label files", _recognises, _read)
