"""Features of clips as a table for other programs: .npz, or Parquet."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from slim_fast.data.cache import ClipCache
from slim_fast.errors import UserError, describe_os_error
from slim_fast.evaluation.features import Features
from slim_fast.writing import replace_atomically

FORMATS = (".npz", ".parquet")


def make_columns(
    cache: ClipCache, features: Sequence[Features], windows: Sequence[Tensor] = ()
) -> dict[str, np.ndarray]:
    """A row a clip: what is known of it, and its features.

    "name", "label" (-1: unknown), "class", "subject", "split:NAME" (0 neither, 1 train, 2 test);
    "features" (N, 2 D), CLS and mean patch of the last block, summed over people, which linear
    classifiers read, and "retrieval" (N, 2 D M), which neighbours are found by; "windows" where
    they are given (`extract_windows`), for either. Of several streams the features of each stand
    side by side, those for retrieval and of windows with norm 1.
    """
    classes = np.array([*cache.classes, ""])  # -1 is the last one
    columns = {
        "name": cache.names,
        "label": cache.label,
        "class": classes[cache.label],
        "subject": cache.subject,
        **{f"split:{name}": code for name, code in cache.splits.items()},
    }
    columns["features"] = np.hstack([stream.pooled.numpy() for stream in features])
    columns["retrieval"] = _join([stream.retrieval for stream in features])
    if windows:
        columns["windows"] = _join(windows)
    return columns


def _join(streams: Sequence[Tensor]) -> np.ndarray:
    """Features of several streams side by side, each with norm 1; those of one as they are."""
    if len(streams) > 1:
        streams = [F.normalize(stream, dim=1) for stream in streams]
    return np.hstack([stream.numpy() for stream in streams])


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
