"""Clips wherever they are: a cache as it is, or files through a cache of a moment."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from slim_fast.data.cache import ClipCache, is_cache
from slim_fast.data.cache_writer import CacheWriter
from slim_fast.data.clips import Clip, count_coordinates
from slim_fast.data.convert import convert
from slim_fast.data.readers import Options
from slim_fast.data.readers.source import infer_skeleton
from slim_fast.data.readers.stream import explain_damage
from slim_fast.errors import UserError


@contextmanager
def open_clips(sources: Sequence[Path], options: Options) -> Iterator[tuple[ClipCache, list[str]]]:
    """A cache of the clips in `sources`, and what looks wrong about them, a sentence each.

    sources: one clip cache; one data set of a format that `convert` knows; or .npy files, each a
    clip (T, V, C) or (T, V, C, M) called by its file's name. A cache of files is in a temporary
    folder, which is gone at the end.
    options: of files; as of `convert`.
    Raises: UserError for what cannot be read.
    """
    first = sources[0]
    if len(sources) == 1 and is_cache(first):
        yield ClipCache.open(first), []
        return
    with tempfile.TemporaryDirectory(prefix="slim_fast-") as folder:
        path = Path(folder) / "clips"
        if all(source.suffix == ".npy" and source.is_file() for source in sources):
            _write_arrays(sources, path, options)
            yield ClipCache.open(path), []
        elif len(sources) == 1:
            done = convert(first, path, options)
            unread = [f"{problem.item}: {problem.reason}" for problem in done.problems]
            yield done.cache, [*unread, *done.warnings]
        else:
            raise UserError(
                f"{len(sources)} files: give one cache, one data set, or .npy files of one clip "
                "each."
            )


def _write_arrays(sources: Sequence[Path], path: Path, options: Options) -> None:
    arrays = map(_read_array, sources)
    first = next(arrays)
    skeleton = infer_skeleton(options, first.shape[1], first.shape[2], sources[0])
    scale = np.ones((first.shape[2], 1), np.float32)
    scale[: count_coordinates(skeleton.channels)] = options.scale
    with CacheWriter(path, skeleton.topology, skeleton.channels) as writer:
        for source, array in zip(sources, (first, *arrays), strict=True):
            if array.shape[1:3] == first.shape[1:3]:
                array = array.astype(np.float32) * scale
            writer.add(Clip(array, source.stem))


def _read_array(path: Path) -> np.ndarray:
    """The clip (T, V, C, M) in a .npy file. Raises: UserError when it holds none."""
    with explain_damage(path):
        array = np.load(path, allow_pickle=False)
    array = array[..., None] if array.ndim == 3 else array
    if array.ndim != 4 or array.dtype.kind not in "fiu":
        raise UserError(
            f"{path} holds {array.dtype} numbers of shape {array.shape}: a clip is (T frames, V "
            "joints, C channels), or (T, V, C, M people)."
        )
    return array
