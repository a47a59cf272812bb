"""Skeleton clips: readers of common data sets, and the memory-mapped cache they convert to."""

from slim_fast.data.cache import ClipCache
from slim_fast.data.cache_writer import CacheWriter
from slim_fast.data.clips import CleaningReport, Clip, clean_clip

__all__ = ["CacheWriter", "CleaningReport", "Clip", "ClipCache", "clean_clip"]
