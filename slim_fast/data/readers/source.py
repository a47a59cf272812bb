"""What every reader gives, and the guesses readers share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from slim_fast.data.clips import Clip
from slim_fast.errors import UserError
from slim_fast.skeletons import Topology, get_topology, topology_names

UNAMBIGUOUS = {(25, 3): "ntu-25", (17, 2): "coco-17"}  # (joints, coordinates)


class Problem(NamedTuple):
    """A recording that was left out, and why (reasons are counted, so they name no recording)."""

    item: str
    reason: str


@dataclass(frozen=True)
class Options:
    """What the user may fix. workers: processes, where a format allows several; scratch: folder for temporary files."""

    topology: Topology | None = None
    channels: str | None = None
    workers: int = 1
    scratch: Path | None = None


@dataclass
class Source:
    """A data set being read.

    clips are read while iterating, once; `problems` grows meanwhile. expected: how many clips to expect, for the
    progress bar. classes may be empty: then classes are called by their numbers.
    """

    topology: Topology
    channels: str
    clips: Iterable[Clip]
    classes: Sequence[str] = ()
    expected: int | None = None
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Reader:
    """One format. `recognises` looks at the content, cheaply; `read` raises UserError when it cannot go on."""

    looks_for: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Options], Source]


def choose_topology(options: Options, joints: int, coordinates: int, path: Path) -> Topology:
    """The user's topology, else the only one that such data can be. Raises UserError when it stays open."""
    if options.topology is not None:
        return options.topology
    if (joints, coordinates) in UNAMBIGUOUS:
        return get_topology(UNAMBIGUOUS[joints, coordinates])
    fitting = [name for name in topology_names() if get_topology(name).num_joints == joints]
    raise UserError(
        f"{path} has {joints} joints of {coordinates} coordinates, which names no skeleton: pass "
        "--topology " + (f"({' or '.join(fitting)} would fit)" if fitting else "with a JSON file")
    )


def choose_channels(options: Options, channels: int, path: Path) -> str:
    """The user's channels, else coordinates first and a confidence only in fourth place."""
    if options.channels is not None:
        return options.channels
    if channels not in (2, 3, 4):
        raise UserError(f"{path} has {channels} channels a joint: xyz, xy, xyzc and xyc can be read")
    return {2: "xy", 3: "xyz", 4: "xyzc"}[channels]


def standard_split(name: str) -> str | None:
    """The split that a file or folder name of the NTU family means, e.g. "NTU60_CS" -> "ntu60-xsub"; None if none."""
    words = re.findall(r"[a-z]+|\d+", re.sub("cross[-_ ]?", "x", name.lower()))
    axes = {
        "xset": ("cset", "xset", "csetup", "xsetup"),
        "xview": ("cv", "xv", "cview", "xview"),
        "xsub": ("cs", "xs", "csub", "xsub", "xsubject", "csubject"),
    }
    axis = next((axis for axis, aliases in axes.items() if set(aliases) & set(words)), None)
    if axis is None:
        return None
    if "120" in words or axis == "xset":
        return f"ntu120-{axis}"
    return f"ntu60-{axis}" if {"60", "ntu", "nturgb", "nturgbd"} & set(words) else axis
