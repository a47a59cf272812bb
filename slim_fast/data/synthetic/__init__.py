"""Procedural skeleton actions: bodies, what they do, and how a depth camera sees it. Needs no download."""

from slim_fast.data.synthetic.generate import ACTIONS, generate_clip, write_synthetic

__all__ = ["ACTIONS", "generate_clip", "write_synthetic"]
