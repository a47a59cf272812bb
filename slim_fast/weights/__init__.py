"""Encoders that come with the package, a folder each, and the command that checks weights."""
