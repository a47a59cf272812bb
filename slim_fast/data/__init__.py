"""Skeleton clips: readers of the field's formats, and the memory-mapped cache they all become."""

from slim_fast.data.cache import CacheWriter, ClipCache
from slim_fast.data.clips import CleaningReport, Clip, clean_clip

__all__ = ["CacheWriter", "CleaningReport", "Clip", "ClipCache", "clean_clip"]
