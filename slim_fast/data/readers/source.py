"""What all readers share: their interface, subsets of splits, and the skeleton of plain arrays."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slim_fast.data.clips import Clip, count_coordinates, default_channels
from slim_fast.data.readers.ntu import parse_ntu_name
from slim_fast.errors import UserError
from slim_fast.skeletons import Topology, get_topology, topology_names

UNAMBIGUOUS = {(25, 3): "ntu-25", (17, 2): "coco-17"}  # (joints, coordinates) -> topology
NTU_WORDS = {"ntu", "nturgb", "nturgbd"}
# of numbers above MAX_SCORE or below 0 scores have a smaller fraction, depths a larger one
MAX_SCORE, MIN_DEPTH_FRACTION = 2.0, 0.25

# subset of a split -> the words for it
SUBSETS = {
    "train": ("train", "training", "trn", "tr", "trainval"),
    "val": ("val", "valid", "validation", "dev", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "te"),
}


class Problem(NamedTuple):
    """A recording, or a part of a split, that could not be used.

    Attributes:
        item: its name.
        reason: why; the same words for all items with that problem, because reasons are counted.
        is_recording: whether it is a recording, which is skipped, and not a part of a split.
    """

    item: str
    reason: str
    is_recording: bool = True


@dataclass(frozen=True)
class Options:
    """What a user can set for a conversion.

    Attributes:
        topology: the skeleton; None: inferred from the data.
        channels: of `clips.CHANNELS`; None: inferred from the data.
        workers: processes that read files, for data sets of many files.
        scratch: folder for temporary files; None: the system's.
        kept: folder for what was read of a data set of many files; None: it is not kept.
        scale: factor of the coordinates, to metres.
        labels_from: the label of the first class.
        missing: upper-case NTU names of clips to leave out, because their skeletons are missing.
    """

    topology: Topology | None = None
    channels: str | None = None
    workers: int = 1
    scratch: Path | None = None
    kept: Path | None = None
    scale: float = 1.0
    labels_from: int = 0
    missing: frozenset[str] = frozenset()


@dataclass
class Source:
    """A data set that is open for reading.

    Attributes:
        clips: can be iterated once, and are read meanwhile.
        classes: class names; empty when the data set has none.
        num_clips: expected number of clips, for the progress bar.
        problems: recordings and parts of splits that could not be used; grows during reading.
        warnings: what was assumed or ignored, a sentence each.
    """

    topology: Topology
    channels: str
    clips: Iterable[Clip]
    classes: Sequence[str] = ()
    num_clips: int | None = None
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reader:
    """A format: its description, a quick test of the content, and a function that opens it.

    `read` raises UserError for content that cannot be read.
    """

    description: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Options], Source]


def find_subset(word: str) -> str | None:
    """The key of SUBSETS that a word means, in capitals or not; None for other words."""
    return next((kind for kind, words in SUBSETS.items() if word.strip().lower() in words), None)


def resolve_subset(kind: str | None, kinds: Iterable[str | None]) -> str | None:
    """ "train" or "test" for one of a data set's subsets, of these kinds.

    A "val" is the test subset when there is no "test", and None beside one.
    """
    return "test" if kind == "val" and "test" not in kinds else None if kind == "val" else kind


class Skeleton(NamedTuple):
    """The topology and the channels of a data set; `warnings` say what was assumed."""

    topology: Topology
    channels: str
    warnings: list[str]


def infer_skeleton(
    options: Options,
    joints: int,
    numbers: int,
    path: Path,
    hints: Iterable[str] = (),
    read_third: Callable[[], np.ndarray] | None = None,
) -> Skeleton:
    """The topology and channels of `options`, or those that the data leave no doubt of.

    Two numbers a joint are xy, four are xyzc. Three are xyc, with a score, on skeletons of images
    (whose `up` is "-y"), and xyz on others.

    Without a topology 17 joints of two coordinates are coco-17. 25 joints are ntu-25 when they
    surely have three coordinates: by --channels; with four numbers; when the path or a string of
    `hints` contains NTU or an NTU name; or when the third numbers cannot be scores.

    Args:
        options: what the user has set.
        joints, numbers: how many joints, and numbers a joint, the data have.
        path: of the data set, for messages and as a hint.
        hints: names of clips and folders.
        read_third: reads the third numbers of the joints of some clips.

    Raises: UserError when the skeleton is ambiguous, or the third numbers of an image skeleton are
    no scores.
    """
    channels, topology = options.channels, options.topology
    if channels is None and numbers not in (2, 3, 4):
        raise UserError(f"{path} has {numbers} channels a joint: xyz, xy, xyzc and xyc can be read")
    coordinates = count_coordinates(channels) if channels is not None else min(numbers, 3)
    if topology is None:
        name = UNAMBIGUOUS.get((joints, coordinates))
        third_is_open = channels is None and numbers == 3
        if name is None or (
            third_is_open
            and not _is_ntu(path, hints)
            and not (read_third and _is_depth(read_third()))
        ):
            fitting = [name for name in topology_names() if get_topology(name).num_joints == joints]
            hint = " or ".join(fitting) + " would fit"
            if third_is_open:
                hint += "; --channels would be " + ", ".join(
                    f"{default_channels(get_topology(n), 3)} for {n}" for n in fitting
                )
            raise UserError(
                f"{path} has {joints} joints of {coordinates} "
                f"coordinates{' (or two and a score)' * third_is_open}, which no skeleton fits for "
                f"sure: pass --topology {f'({hint})' if fitting else 'with a JSON file'}"
            )
        topology = get_topology(name)
    if channels is not None:
        return Skeleton(topology, channels, [])
    channels = default_channels(topology, numbers)
    if channels == "xyc" and read_third is not None and _is_depth(read_third()):
        raise UserError(
            f"the third number of a joint in {path} is no score (many are negative or above "
            f"{MAX_SCORE:g}): pass --channels xyz if it is a depth, or xyc if it is a score "
            "all the same"
        )
    assumed = (
        f"the third number of a joint counts as a score, because '{topology.name}' is a skeleton "
        "of images: pass --channels xyz if it is a depth"
    )
    return Skeleton(topology, channels, [assumed] * (channels == "xyc"))


def _is_ntu(path: Path, hints: Iterable[str]) -> bool:
    paths = {Path(os.path.abspath(path)), path.resolve()}  # a link's own name and its target's
    parts = [part for path in paths for part in path.parts[-2:]]
    return any(map(parse_ntu_name, hints := list(hints))) or any(
        NTU_WORDS & set(re.findall("[a-z]+", text.lower())) for text in (*parts, *hints)
    )


def _is_depth(numbers: np.ndarray) -> bool:
    """Whether numbers are no scores, which lie between 0 and about 1, or are -1 where missing."""
    if numbers.dtype.kind not in "fiu":
        return False
    with np.errstate(invalid="ignore"):
        known = numbers[np.isfinite(numbers) & (numbers != 0) & (numbers != -1)]
    return known.size > 0 and float(((known < 0) | (known > MAX_SCORE)).mean()) > MIN_DEPTH_FRACTION


def find_standard_split(name: str) -> str | None:
    """The benchmark split in a name of NTU files: "NTU60_CS" -> "ntu60-xsub"; None without one."""
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
