"""Corrections of the network's output that need no clean picture."""
