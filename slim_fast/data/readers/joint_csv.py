"""Your own clips as CSV: a file a clip, a row a frame, a column for each number of each joint.

Columns are called JOINT_x, JOINT_y, JOINT_z and, for a confidence, JOINT_c. The joints' names are
those of a topology, in any order and spelling that `skeletons.correspondence` knows, such as
left_wrist, LWrist or wrist-left; or numbers, in the topology's order. A column `frame` orders the
rows; with a column `person` a frame has a row for each. An empty cell, or NaN, is undetected. Cells
are separated by commas, semicolons (then 1,5 is a number) or tabs. Labels and splits are as
`own_folders` says.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from slim_fast.data.clips import Clip
from slim_fast.data.readers.files import MAX_FRAMES, PEEKED, find_files, read_text, some_file
from slim_fast.data.readers.own_folders import TABLE, describe_clips, name_below
from slim_fast.data.readers.recordings import Recording, read_recordings
from slim_fast.data.readers.source import Options, Problem, Reader, Source, infer_skeleton
from slim_fast.errors import UserError
from slim_fast.skeletons import Topology, get_topology, topology_names
from slim_fast.skeletons.correspondence import find_same_joints

ENDING = ".csv"
COLUMN = re.compile(
    r"(.+?)[ _.:-]+(?:(x|y|z)|(c|conf|confidence|score|visibility|likelihood))", re.IGNORECASE
)
NUMBER = re.compile(r"(?:[a-z]+[ _.-]?)?(\d+)", re.IGNORECASE)  # 3, j3, joint_3
EMPTY = {"", "nan", "na", "n/a", "null", "none", "-"}
ORDERS = {"frame", "frames", "frame_number", "index"}
PEOPLE = {"person", "people", "person_id", "track", "track_id"}
MAX_PEOPLE = 200


@dataclass(frozen=True)
class Header:
    """Where a file has what.

    Attributes:
        delimiter: between cells.
        columns: joint as it is called -> axis of "xyzc" -> column.
        width: number of columns.
        frame, person: their columns, None without.
    """

    delimiter: str
    columns: dict[str, dict[str, int]]
    width: int
    frame: int | None
    person: int | None

    @property
    def axes(self) -> str:
        """The axes of all joints, in the order of "xyzc"."""
        return "".join(a for a in "xyzc" if all(a in own for own in self.columns.values()))


def parse_header(line: str) -> Header:
    """What the first line of a file says. Raises: UserError when it names no joints' x and y."""
    delimiter = max(",;\t", key=line.count)
    cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    columns: dict[str, dict[str, int]] = {}
    special: dict[str, int] = {}
    for number, cell in enumerate(cells):
        if match := COLUMN.fullmatch(cell):
            axis = match[2].lower() if match[2] else "c"
            if axis in columns.setdefault(match[1], {}):
                raise UserError(f"two columns for {axis} of joint '{match[1]}'")
            columns[match[1]][axis] = number
        else:
            kind = "frame" if cell.lower() in ORDERS else "person" if cell.lower() in PEOPLE else ""
            special.setdefault(kind, number)
    columns = {joint: own for joint, own in columns.items() if {"x", "y"} <= own.keys()}
    if not columns:
        raise UserError("a header without columns such as head_x, head_y")
    return Header(delimiter, columns, len(cells), special.get("frame"), special.get("person"))


def find_joints(names: Sequence[str], topology: Topology) -> list[int | None]:
    """For each joint of `topology` the place of its name, or of its number, in `names`; or None."""
    if numbers := _parse_numbers(names):
        order = np.argsort(numbers).tolist()
        return [order[j] if j < len(order) else None for j in range(topology.num_joints)]
    everything = {"all": tuple(range(len(names)))}
    chain = tuple(range(-1, len(names) - 1))
    own = Topology("columns", tuple(names), chain, everything["all"], everything, 0)
    return find_same_joints(own, topology)


def _parse_numbers(names: Sequence[str]) -> list[int]:
    matches = [NUMBER.fullmatch(name) for name in names]
    return [int(match[1]) for match in matches if match] if all(matches) else []


def read_clip(topology: Topology, channels: str, recording: Recording) -> Clip:
    """Read the clip of a file. Raises: OSError, UserError when there is none."""
    text = read_text(recording.files[0])
    first, *lines = text.splitlines() or [""]
    header = parse_header(first)
    names = list(header.columns)
    places = find_joints(names, topology)
    if None in places:
        lacking = topology.joints[places.index(None)]
        raise UserError(f"no columns for joint '{lacking}' of '{topology.name}'")
    if missing := [c for c in channels if c not in header.axes]:
        raise UserError(f"no {missing[0]} for every joint")
    table = _parse_rows(lines, header)
    wanted = [
        header.columns[names[place]][c] for place in places if place is not None for c in channels
    ]
    joints = table[:, wanted].reshape(len(table), topology.num_joints, len(channels))
    frame = _number_frames(table, header)
    person = np.zeros(len(table), int)
    if header.person is not None:
        _, person = np.unique(table[:, header.person], return_inverse=True)
    people, frames = int(person.max()) + 1, int(frame.max()) + 1
    if people > MAX_PEOPLE or people * frames > 10 * MAX_FRAMES:
        raise UserError(f"{people} people in {frames} frames: cut it into shorter recordings")
    if len(np.unique(frame * people + person)) != len(table):
        raise UserError("two rows for one frame" + " and person" * (header.person is not None))
    positions = np.full((frames, people, *joints.shape[1:]), np.nan)
    positions[frame, person] = joints
    return recording.clip(np.moveaxis(positions, 1, -1))


def _parse_rows(lines: Sequence[str], header: Header) -> np.ndarray:
    # (rows, columns) float64, NaN for cells that are no number in columns that are not read
    read = {column for own in header.columns.values() for column in own.values()}
    read |= {column for column in (header.frame,) if column is not None}
    codes: dict[str, float] = {}  # of people

    def parse(column: int, cell: str) -> float:
        if column == header.person:
            return codes.setdefault(cell.strip(), len(codes))
        if column not in read or cell.strip().lower() in EMPTY:
            return np.nan
        return float(cell.replace(",", ".") if header.delimiter == ";" else cell)

    rows = []
    for cells in csv.reader([line for line in lines if line.strip()], delimiter=header.delimiter):
        if len(cells) != header.width:
            raise UserError("rows of another length than the header, or cut short")
        try:
            rows.append([parse(column, cell) for column, cell in enumerate(cells)])
        except ValueError as error:
            raise UserError("a cell that is no number") from error
    if not rows:
        raise UserError("without frames")
    if len(rows) > MAX_FRAMES:
        raise UserError(f"more than {MAX_FRAMES} frames: cut it into shorter recordings")
    return np.array(rows)


def _number_frames(table: np.ndarray, header: Header) -> np.ndarray:
    # (rows,) from 0; a gap is as many empty frames
    if header.frame is None:
        if header.person is None:
            return np.arange(len(table))
        raise UserError("a column person without a column frame")
    numbers = table[:, header.frame]
    if not (np.isfinite(numbers).all() and (numbers == numbers.round()).all()):
        raise UserError("frames that are not numbered")
    numbers = (numbers - numbers.min()).astype(np.int64)
    numbers //= max(1, int(np.gcd.reduce(numbers)))
    if numbers.max() >= MAX_FRAMES:
        raise UserError(f"more than {MAX_FRAMES} frames: cut it into shorter recordings")
    return numbers


def _read_header(file: Path) -> Header:
    with open(file, encoding="utf-8-sig", errors="replace") as opened:
        return parse_header(opened.readline(1 << 20))


def _recognises(path: Path) -> bool:
    def fits(file: Path) -> bool:
        return file.name.lower() != TABLE and bool(_read_header(file).columns)

    return some_file(path, ENDING, fits, limit=PEEKED)


def _choose_topology(header: Header, path: Path) -> Topology:
    # the shipped one that has exactly these joints, in this order if there is one
    names = list(header.columns)
    chosen: str | None = None
    for name in topology_names():
        places = find_joints(names, get_topology(name))
        if sorted(places, key=str) == sorted(range(len(names)), key=str):
            if places == list(range(len(names))):
                return get_topology(name)
            chosen = chosen or name
    if chosen is None:
        raise UserError(
            f"{path} has columns for {len(names)} joints ({', '.join(names[:4])}, ...), which are "
            "those of no known skeleton: pass --topology with a name of `topologies` or a JSON file"
        )
    return get_topology(chosen)


def _read(path: Path, options: Options) -> Source:
    problems: list[Problem] = []
    root = path.parent if path.is_file() else path
    found = [path] if path.is_file() else sorted(find_files(path, ENDING, problems))
    files = [file for file in found if file != root / TABLE]
    header, first = _first_header(files)
    joints, axes = list(header.columns), header.axes
    topology = options.topology
    if topology is None and not _parse_numbers(joints):
        topology = _choose_topology(header, first)
    topology, _, _ = infer_skeleton(
        Options(topology, "xyz" if "z" in axes else "xy"), len(joints), len(axes), path
    )
    channels = options.channels or axes
    places = find_joints(joints, topology)
    if None in places:
        raise UserError(
            f"{first} has no columns for joint '{topology.joints[places.index(None)]}' of topology "
            f"'{topology.name}': name them as in the topology"
        )
    unused = [joint for i, joint in enumerate(joints) if i not in places]
    clips = describe_clips(root, {name_below(root, file): (file,) for file in files}, problems)
    warnings = [f"{first} has columns for {', '.join(unused)}, which were ignored"] * bool(unused)
    return Source(
        topology,
        channels,
        read_recordings(
            clips.recordings, partial(read_clip, topology, channels), options, problems
        ),
        clips.classes,
        len(clips.recordings),
        problems,
        warnings,
    )


def _first_header(files: Sequence[Path]) -> tuple[Header, Path]:
    # of the first file that has one; there is one, or the format would not be this
    for file in files:
        try:
            return _read_header(file), file
        except (OSError, UserError):
            continue
    raise UserError("no CSV file can be read: mend their permissions")


READER = Reader(
    "CSV files, one a clip, with columns JOINT_x, JOINT_y[, JOINT_z]", _recognises, _read
)
