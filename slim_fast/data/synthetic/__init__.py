"""Procedural skeleton actions: bodies, their motions, and a depth camera. Needs no download."""

from slim_fast.data.synthetic.generate import ACTIONS, generate_clip, write_synthetic

__all__ = ["ACTIONS", "generate_clip", "write_synthetic"]
