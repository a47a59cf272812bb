"""JSON that anybody may have written."""

import json

import pytest

from slim_fast.reading import parse_json


def test_whatever_is_no_json_is_a_value_error() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": [1, null]}') == {"a": [1, None]}
    for text in (b"", b"{", b"\xff\xff", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000):
        with pytest.raises(ValueError, match=r"."):
            parse_json(text)
    with pytest.raises(RecursionError):  # else there is no need of it
        json.loads(b"[" * 100_000)
