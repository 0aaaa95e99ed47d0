"""Noise: estimate its level, detect whether it is white, model it, and draw more of it."""
