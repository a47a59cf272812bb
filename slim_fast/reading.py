"""JSON that anybody may have written."""

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """As json.loads; bytes with or without a BOM. Raises: ValueError, and nothing else; also for
    halves of surrogate pairs, which no file could hold again.
    """
    try:
        value = json.loads(text)
        if (b"\\" if isinstance(text, bytes) else "\\") in text:  # type: ignore[operator]
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
