"""A clip cache of some joints of another: the upper body, an arm, a hand."""

from pathlib import Path

from slim_fast.data.cache import ClipCache
from slim_fast.data.cache_writer import CacheWriter
from slim_fast.data.clips import Clip
from slim_fast.skeletons.subsets import take_subset

_SIDES = {1: "train", 2: "test"}


def write_subset(cache: ClipCache, out: Path, subset: str, overwrite: bool = False) -> ClipCache:
    """Write the clips of `cache` with the joints of a subset (`take_subset`) to `out`.

    Clips in which none of them was detected are left out; people are ranked anew.
    Raises: UserError for an unknown subset, and as `CacheWriter`.
    """
    topology, kept = take_subset(cache.topology, subset)
    settings = cache.channels, cache.classes, str(cache.path), overwrite
    with CacheWriter(out, topology, *settings) as writer:
        for i in range(len(cache)):
            split = {name: _SIDES[code[i]] for name, code in cache.splits.items() if code[i]}
            label, subject, camera, setup = (
                int(x[i]) for x in (cache.label, cache.subject, cache.camera, cache.setup)
            )
            positions, name = cache.clip(i)[:, kept], str(cache.names[i])
            writer.add(Clip(positions, name, label, subject, camera, setup, split))
    return ClipCache.open(out)
