"""Audit of a cache: its counts beside the published ones of the data set.

Sources: NTU RGB+D 60 and 120 without the 302 and 535 recordings with missing skeletons, as GCN
code bases count them (Shahroudy et al. 2016, Liu et al. 2019); PKU-MMD (Liu et al. 2017); UTD-MHAD
(Chen et al. 2015); N-UCLA (Wang et al. 2014); SBU (Yun et al. 2012). What is not published, or not
in the files' names, is None.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from slim_fast.data.cache import ClipCache
from slim_fast.data.readers import pku_mmd, utd_mhad


@dataclass(frozen=True)
class Published:
    """Counts of a data set; `find_clips` is (N,) bool, a cache's clips that belong to it.

    `splits` is split -> (train, test) clips.
    """

    title: str
    find_clips: Callable[[ClipCache], np.ndarray]
    clips: int | None = None
    classes: int | None = None
    subjects: int | None = None
    splits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    missing: int = 0  # recordings on the list of missing skeletons, which are not counted


def _in_splits(prefix: str) -> Callable[[ClipCache], np.ndarray]:
    def find(cache: ClipCache) -> np.ndarray:
        codes = [code for name, code in cache.splits.items() if name.startswith(prefix)]
        return np.any(codes, axis=0) if codes else np.zeros(len(cache), bool)

    return find


def _ntu_120(cache: ClipCache) -> np.ndarray:
    # every clip of NTU-60 is in NTU-120 too
    found = _in_splits("ntu120-")(cache)
    return found & bool((cache.label[found] >= 60).any())


def _pku(phase: int) -> Callable[[ClipCache], np.ndarray]:
    def find(cache: ClipCache) -> np.ndarray:
        if cache.classes != pku_mmd.ACTIONS:
            return np.zeros(len(cache), bool)
        return np.array([pku_mmd.find_phase(name) == phase for name in cache.names.tolist()])

    return find


def _utd(cache: ClipCache) -> np.ndarray:
    return np.full(len(cache), cache.classes == utd_mhad.ACTIONS)


PUBLISHED = (
    Published(
        "NTU RGB+D 60",
        _in_splits("ntu60-"),
        56_578,
        60,
        40,
        {"ntu60-xsub": (40_091, 16_487), "ntu60-xview": (37_646, 18_932)},
        302,
    ),
    Published(
        "NTU RGB+D 120",
        _ntu_120,
        113_945,
        120,
        106,
        {"ntu120-xsub": (63_026, 50_919), "ntu120-xset": (54_468, 59_477)},
        535,
    ),
    Published("PKU-MMD I", _pku(1), 21_545, 51),
    Published("PKU-MMD II", _pku(2), None, 41),
    Published("UTD-MHAD", _utd, 861, 27, 8, {"xsub": (431, 430)}),
    Published("N-UCLA", _in_splits("nucla-"), None, 10),
    Published("SBU Kinect Interaction", _in_splits("sbu-"), None, 8),
)


def audit_cache(cache: ClipCache) -> list[str]:
    """Lines that set a cache's counts beside the published ones; none for other data sets."""
    lines: list[str] = []
    for published in PUBLISHED:
        members = published.find_clips(cache)
        if members.any():
            lines += _audit(cache, members, published)
    return lines


def _audit(cache: ClipCache, members: np.ndarray, published: Published) -> list[str]:
    counts = [
        ("clips", int(members.sum()), published.clips),
        ("classes", _count_known(cache.label[members]), published.classes),
    ]
    if (cache.subject[members] >= 0).any():  # not all formats name them
        counts.append(("subjects", _count_known(cache.subject[members]), published.subjects))
    for name, code in cache.splits.items():
        if name in published.splits:
            for subset, expected in zip((1, 2), published.splits[name], strict=True):
                count = int((code[members] == subset).sum())
                counts.append((f"{name} {('train', 'test')[subset - 1]}", count, expected))
    known = [(what, count, expected) for what, count, expected in counts if expected is not None]
    wrong = [what for what, count, expected in known if count != expected]
    lines = [
        f"{published.title}, counted and published:",
        *(
            f"  {what:18}{count:>8,}"
            + ("" if expected is None else f"{expected:>10,}{'  differs' * (count != expected)}")
            for what, count, expected in counts
        ),
    ]
    extra = counts[0][1] - (published.clips or counts[0][1])
    if not wrong:
        lines.append("  all as published")
    elif 0 < extra <= published.missing:
        lines.append(
            f"  {extra} clips too many: leave out the {published.missing} with missing skeletons "
            "(convert --missing FILE)"
        )
    return lines


def _count_known(numbers: np.ndarray) -> int:
    return len(np.unique(numbers[numbers >= 0]))
