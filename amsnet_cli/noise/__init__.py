"""Noise: its level, whether it is white, its model, and drawing more of it."""
