"""The split of a PYSKL pickle: the meaning of its keys, and the clips that its lists name."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slim_fast.data.readers.pickled_values import parse_list, parse_text
from slim_fast.data.readers.source import SUBSETS, Problem, find_standard_split
from slim_fast.errors import UserError

SUBSET_OF_WORD = {word: kind for kind, words in SUBSETS.items() for word in words}
SUFFIX = re.compile(
    r"(.*?)(training|train|validation|valid|val|testing|test)(?:set|split|list)?(\d*)",
    re.IGNORECASE,
)
ENDING = re.compile(r"\.(avi|json|mkv|mov|mp4|npy|npz|pkl|skeleton|txt|webm)$", re.IGNORECASE)
FILLERS = {"set", "split", "list"}


def read_split(
    split: Any, names: Sequence[str], path: Path
) -> tuple[list[dict[str, str]], list[Problem]]:
    """Read which clips train and which test; returns (`Clip.split` of every clip, problems).

    "xsub_train" and "xsub_val" are the split "xsub". A "val" beside a "test" is in neither subset,
    and a clip that is listed in both counts as test. The lists hold names of clips, where another
    file ending or folder is allowed if one clip alone matches, or all of them hold numbers from 0.
    Problems are keys that name no subset, and names that match no clip.

    Raises: UserError for anything but a dict of lists, and for a split of which nothing matches.
    """
    lists = _parse_lists(split)
    if lists is None:
        raise UserError(f"{path} has a 'split' that is not a dict of lists of names")
    parsed = {key: _parse_key(key) for key in lists}
    of_clip: list[dict[str, str]] = [{} for _ in names]
    unknown = "its name says neither train nor test"
    problems = [
        Problem(f"split '{key}'", f"{unknown} ({len(lists[key])} names)", is_recording=False)
        for key, meaning in parsed.items()
        if meaning is None
    ]
    if problems and len(problems) == len(lists):
        raise UserError(
            f"{path} has a 'split' of {', '.join(map(repr, lists))}, which say neither train nor "
            "test: rename its keys"
        )
    meanings = {key: meaning for key, meaning in parsed.items() if meaning is not None}
    find = _make_finder(names, [entry for key in meanings for entry in lists[key]])
    matched: dict[str, bool] = {}  # split -> whether anything in it matches
    for key, (group, kind) in sorted(meanings.items(), key=lambda pair: pair[1][1] != "train"):
        name = find_standard_split(f"{path.stem} {group}") or group or "default"
        unused = kind == "val" and (group, "test") in meanings.values()
        missing = []
        for entry in lists[key]:
            found = find(entry)
            if not found:
                missing.append(entry)
            for clip in [] if unused else found:
                of_clip[clip][name] = "train" if kind == "train" else "test"
        if lists[key]:
            matched[name] = matched.get(name, False) or len(missing) < len(lists[key])
        if missing:
            reason = (
                f"{len(missing)} of its {len(lists[key])} names belong to no clip, such as "
                f"{_quote(missing[0])}"
            )
            problems.append(Problem(f"split '{key}'", reason, is_recording=False))
    for name, any_clip in matched.items():
        if not any_clip:
            reasons = "; ".join(f"{item}: {reason}" for item, reason, _ in problems)
            raise UserError(
                f"{path} has a split '{name}' of which nothing matches: {reasons}; clips are "
                f"called {', '.join(map(_quote, names[:3]))}: correct the split or remove it"
            )
    return of_clip, problems


def _parse_lists(split: Any) -> dict[str, list[Any]] | None:
    if not isinstance(split, dict):
        return None
    lists = {}
    for key, values in split.items():
        name, entries = parse_text(key), parse_list(values)
        if name is None or entries is None:
            return None
        lists[name] = entries
    return lists


def _parse_key(key: str) -> tuple[str, str] | None:
    """(split, key of SUBSETS): "xsub_train" -> ("xsub", "train"), "Test1" -> ("1", "test")."""
    words = [part for part in re.split(r"[^\w]+|_", key) if part and part.lower() not in FILLERS]
    subsets = [i for i, part in enumerate(words) if part.lower() in SUBSET_OF_WORD]
    if {words[i].lower() for i in subsets} == {"train", "val"}:  # both together
        words[subsets[0] : subsets[-1] + 1], subsets = ["trainval"], subsets[:1]
    if len(subsets) == 1:
        subset = words.pop(subsets[0])
        return "_".join(words), SUBSET_OF_WORD[subset.lower()]
    match = SUFFIX.fullmatch("_".join(words))
    if match is None or subsets:
        return None
    return match[1].rstrip("_") + match[3], SUBSET_OF_WORD[match[2].lower()]


def _make_finder(names: Sequence[str], entries: Iterable[Any]) -> Callable[[Any], Sequence[int]]:
    """A function that finds the clips for an entry of a list."""
    exact = _index_names(names)
    entries = list(entries)
    are_new = (type(e) is int and 0 <= e < len(names) and str(e) not in exact for e in entries)
    if 0 in entries and all(are_new):  # lists without a 0 may count from 1: no numbers of clips
        return lambda entry: (entry,)
    as_written: Callable[[str], str] = str
    tables = [
        (as_written, exact),
        *((form, _unique(form, exact)) for form in (_without_ending, _bare)),
    ]

    def find(entry: Any) -> Sequence[int]:
        text = parse_text(entry)
        if text is None:
            return ()
        found = next((table[form(text)] for form, table in tables if form(text) in table), ())
        return found if found and _paths_agree(text, names[found[0]]) else ()

    return find


def _index_names(names: Sequence[str]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        numbers.setdefault(name, []).append(i)
    return numbers


def _unique(form: Callable[[str], str], numbers: Mapping[str, list[int]]) -> dict[str, list[int]]:
    # a form of two names is ambiguous, so it stands for neither
    by_form: dict[str, list[list[int]]] = {}
    for name, clips in numbers.items():
        by_form.setdefault(form(name), []).append(clips)
    return {short: clips[0] for short, clips in by_form.items() if len(clips) == 1}


def _without_ending(name: str) -> str:
    return ENDING.sub("", name)


def _path(name: str) -> list[str]:
    return _without_ending(name.replace("\\", "/").strip("/")).split("/")


def _bare(name: str) -> str:
    return _path(name)[-1]


def _paths_agree(name: str, other: str) -> bool:
    """Whether one path ends in the other: left/a and videos/left/a do, not left/a and right/a."""
    length = min(len(_path(name)), len(_path(other)))
    return _path(name)[-length:] == _path(other)[-length:]


def _quote(entry: Any) -> str:
    text = parse_text(entry)
    return f"a {type(entry).__name__}" if text is None else repr(text[:80])
