"""Features of clips as a table for other programs: .npz, or Parquet."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError, describe_os_error
from slim_fast.evaluation.features import Features
from slim_fast.writing import replace_atomically

FORMATS = (".npz", ".parquet")


def make_columns(cache: ClipCache, features: Sequence[Features]) -> dict[str, np.ndarray]:
    """A row a clip: what is known of it, and its features.

    "name", "label" (-1: unknown), "class", "subject", "split:NAME" (0 neither, 1 train, 2 test);
    "features" (N, 2 D), CLS and mean patch of the last block, summed over people, which linear
    classifiers read, and "retrieval" (N, 2 D M), which neighbours are found by. Of several streams
    the features of each stand side by side, those for retrieval with norm 1.
    """
    classes = np.array([*cache.classes, ""])  # -1 is the last one
    columns = {
        "name": cache.names,
        "label": cache.label,
        "class": classes[cache.label],
        "subject": cache.subject,
        **{f"split:{name}": code for name, code in cache.splits.items()},
    }
    pooled = [stream.pooled.numpy() for stream in features]
    found = [stream.retrieval.numpy() for stream in features]
    if len(found) > 1:
        found = [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in found]
    return columns | {"features": np.hstack(pooled), "retrieval": np.hstack(found)}


def check_table(path: Path) -> None:
    """Raises: UserError for another ending than .npz and .parquet, and for this without pyarrow."""
    if path.suffix not in FORMATS:
        raise UserError(f"--out {path}: the file must end in {' or '.join(FORMATS)}.")
    if path.suffix == ".parquet":
        _load_pyarrow()


def write_table(path: Path, columns: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write the columns and, as JSON, what the features are of; the file is whole or as it was.

    Raises: UserError as `check_table`, and when it cannot be written.
    """
    check_table(path)
    write: Callable[[Path], None]
    if path.suffix == ".npz":
        content = {**columns, "about": np.array(json.dumps(about))}
        write = lambda file: np.savez(file, **content)  # type: ignore[arg-type]  # noqa: E731
    else:
        pyarrow, parquet = _load_pyarrow()
        made = {
            name: pyarrow.array(list(column) if column.ndim > 1 else column)
            for name, column in columns.items()
        }
        table = pyarrow.table(made).replace_schema_metadata({"slim_fast": json.dumps(about)})
        write = lambda file: parquet.write_table(table, file)  # noqa: E731
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as temporary:
            write(temporary)
    except OSError as error:
        raise UserError(
            f"The features could not be written: {describe_os_error(error)}."
        ) from error


def _load_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UserError(
            'Parquet needs pyarrow: pip install "slim_fast[parquet]", or write a .npz.'
        ) from error
    return pyarrow, parquet
