"""The colours of a mosaic's photosites, and how they repeat."""

from __future__ import annotations

import torch
from torch import Tensor

_CORNER = 24
"""Rows and columns that tell how colours repeat."""


def pattern_period(colours: Tensor) -> int:
    """Return the side of the smallest tile of which the colours are made: 1, 2 or 6.

    Args:
        colours: (3, H, W): 1 where a photosite records red, green, blue, else 0.

    Raises:
        ValueError: there is no such tile.
    """
    colours = colours[:, :_CORNER, :_CORNER]
    for period in (1, 2, 6):
        same_down = torch.equal(colours[:, period:], colours[:, :-period])
        if same_down and torch.equal(colours[..., period:], colours[..., :-period]):
            return period
    raise ValueError("the colours of this mosaic do not repeat every one, two or six photosites")
