"""Encoder, heads, losses, and student and teacher together."""
