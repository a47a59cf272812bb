"""The clips that a run trains on and is evaluated on."""

import hashlib
import json
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from slim_fast.data.cache import ClipCache, OldFormatError, is_cache
from slim_fast.data.inspection import check_units, measure_geometry
from slim_fast.data.synthetic import write_synthetic
from slim_fast.errors import UserError
from slim_fast.evaluation.probe import select_labelled_clips
from slim_fast.training.config import PretrainConfig
from slim_fast.training.output import logger
from slim_fast.views.store import FrameStore


def open_data(config: PretrainConfig, folder: Path) -> ClipCache:
    """The cache that config.data names; "synthetic" is generated once, beside the run folder."""
    if config.data != "synthetic":
        cache = ClipCache.open(Path(config.data))
        for warning in check_units(cache, measure_geometry(cache)):
            warnings.warn(warning, stacklevel=3)
        return cache
    path = folder.parent / "synthetic"
    if path.exists():
        with suppress(OldFormatError):
            return ClipCache.open(path)
    logger.info(f"Generating skeleton actions into {path} ...")
    try:
        return write_synthetic(path, overwrite=path.exists())
    except UserError:
        if not is_cache(path):  # else a run beside this one was faster
            raise
    return ClipCache.open(path)


def select_training_clips(cache: ClipCache, split: str | None) -> Any:
    """Clips to train on: the split's training side; None for all, without a split or for "all"."""
    if split == "all" or (split is None and not cache.splits):
        return None
    return cache.split(split)[0]


def hash_clips(store: FrameStore) -> str:
    """Identifies the clips that a run trains on, wherever their cache lies."""
    columns = [getattr(store.cache, name)[store.clips] for name in ("names", "length", "people")]
    facts = [store.topology.to_dict(), store.channels, *(column.tolist() for column in columns)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def select_knn_clips(cache: ClipCache, config: PretrainConfig) -> tuple[Any, Any] | None:
    """Training and test clips of the online k-NN; None when the split has no labels to compare."""
    split = None if config.split == "all" else config.split
    try:
        return select_labelled_clips(cache, split, config.log.knn_clips)
    except UserError:
        return None
