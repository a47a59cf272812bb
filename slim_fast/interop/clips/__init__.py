"""Clips (B, C, T, V, M) as other code bases have them: their checks, and the people in them."""
