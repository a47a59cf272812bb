"""Malformed files out of good ones: bytes, members of archives, and values in JSON."""

import io
import json
import random
import warnings
import zipfile
from contextlib import suppress
from typing import Any

# What ends, begins or changes a value in one of the formats, and pickles that would make a folder.
TOKENS = [
    *(b"", b"\0", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b",", b"[", b"]", b"{", b"}", b'"'),
    *(b"null", b"true", b"-1", b"0", b"1e999", b"nan", b"inf", b"99999999999999999999", b"\n"),
    *(
        b"'descr'",
        b"'shape': (-1,)",
        b"'shape': (4000000000,)",
        b"|O",
        b"<U999999999",
        b"../x",
        b"[" * 5000,
    ),
    *(b"cos\nmkdir\n(S'PROOF'\ntR.", b"cposix\nmkdir\n(S'PROOF'\ntR.", b"c__builtin__\neval\n"),
    b"[" * 5000,
    b"\x80\x02cos\nmkdir\nX\x05\x00\x00\x00PROOF\x85R.",
]
VALUES: list[Any] = [
    *(None, True, 0, 1, -1, 3, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "a", "xyz", "../../x", "\0", "ä", "\ud800", "1", [], [[]], [None], [1, 2, 3], {}),
    *({"a": 1}, [0] * 1000, "x" * 5000),
]


def mutate(content: bytes, draw: random.Random) -> bytes:
    """Some other content; an archive's members more often than its own bytes."""
    with suppress(Exception):  # no longer an archive, or no JSON
        if content[:2] == b"PK" and draw.random() < 0.8:
            return _mutate_member(content, draw)
        if content[:1] in (b"{", b"[") and draw.random() < 0.6:
            return _mutate_json(content, draw)
    return _mutate_bytes(content, draw)


def _mutate_bytes(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 1, 2, 3, 8])):
        size = len(changed)
        # half of the places are near an end, where headers are
        near = min(size, 200)
        place = draw.choice([draw.randrange(size + 1), draw.randrange(near + 1)])
        place = draw.choice([place, size - min(place, size)])
        span = draw.choice([1, 1, 2, 4, 8, 64, max(1, size // 4)])
        how = draw.randrange(6)
        if how == 0 and place < size:
            changed[place] ^= 1 << draw.randrange(8)
        elif how == 1:
            del changed[place:]
        elif how == 2:
            del changed[place : place + span]
        elif how == 3:
            changed[place:place] = changed[place : place + span]
        elif how == 4:
            token = draw.choice(TOKENS)
            changed[place : place + draw.choice([0, len(token), span])] = token
        else:
            changed[place : place + span] = draw.randbytes(min(span, max(0, size - place)))
    return bytes(changed)


def _mutate_member(content: bytes, draw: random.Random) -> bytes:
    """Archives whose checksums are right and whose members are not."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    number = draw.randrange(len(members))
    name, inner = members[number]
    how = draw.randrange(10)
    if how == 0:
        del members[number]
    elif how == 1:
        members.append(draw.choice(members))
    elif how == 2:
        members[number] = (name + draw.choice(["", "x", "/", "\\..\\y"]), inner)
    elif how == 3:
        members[number] = (name, draw.choice(members)[1])
    else:
        members[number] = (name, mutate(inner, draw))
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name that is there twice
        with zipfile.ZipFile(out, "w") as archive:
            for name, inner in members:
                archive.writestr(name, inner)
    return out.getvalue()


def _mutate_json(content: bytes, draw: random.Random) -> bytes:
    value = json.loads(content)
    for _ in range(draw.choice([1, 1, 2, 4])):
        value = _change(value, draw)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _change(value: Any, draw: random.Random) -> Any:
    """A value with one other value, key or element somewhere in it."""
    if not isinstance(value, dict | list) or not value or draw.random() < 0.15:
        return draw.choice(VALUES)
    if isinstance(value, dict):
        name = draw.choice(list(value))
        how = draw.randrange(8)
        if how == 0:
            return {k: v for k, v in value.items() if k != name}
        if how == 1:
            return {(k if k != name else f"{k}x"): v for k, v in value.items()}
        return {**value, name: _change(value[name], draw)}
    place = draw.randrange(len(value))
    how = draw.randrange(8)
    if how == 0:
        return value[:place] + value[place + 1 :]
    if how == 1:
        return [*value, value[place]]
    return [*value[:place], _change(value[place], draw), *value[place + 1 :]]
