"""JSON that anybody may have written."""

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """As json.loads; bytes with or without a BOM. Raises: ValueError, and nothing else."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
