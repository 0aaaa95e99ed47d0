"""Traces that JPEG leaves in pixels, whatever file they are in by now.

Coding leaves each coefficient of each block a multiple of a step. Pixels keep that through any
lossless format and through cropping, but not through resizing. After Fan and de Queiroz,
"Identification of bitmap compression history" (IEEE Transactions on Image Processing, 2003).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.photos.formats.jpeg import coding_of_quality

_SIDE = 512
"""Side in pixels of what is looked at, in the middle of the picture."""
_BLOCKS = 512
"""Blocks that are looked at more closely: those with most in them."""
_FOR_GRID = 256
"""Side in pixels of what the grid is looked for in."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_FINE = (3, 5)
"""Frequencies, of eight, that are 0 in many blocks: even fine steps are coarser than they are."""
_NEXT_TO_NOTHING = 0.5
_STEPS = range(2, 41)
_BEYOND_ZERO = 0.75
"""Of a step: below, coefficients say nothing of it, as most are small in all pictures."""
_FEWEST, _RISE, _FEWEST_STEPS = 100, 0.35, 8
"""Coefficients that tell of a step; how much more alike to multiples they must be where the blocks
are than between; coefficients whose steps must be found."""

_PLACES = np.arange(8)
_DCT = np.cos((2 * _PLACES + 1) * _PLACES[:, None] * np.pi / 16).astype(np.float32) / 2
_DCT[0] /= np.sqrt(2)


def estimate_quantisation_step(pixels: NDArray[np.integer]) -> float | None:
    """Tell how coarsely a picture was coded when it was a JPEG, by its pixels alone.

    Args:
        pixels: (H, W, C), C = 1 or 3, uint8 or uint16.

    Returns:
        The mean quantisation step of its brightness in [0, 1] units, by libjpeg's scale of tables;
        None where there are no such traces.
    """
    height, width, channels = pixels.shape
    if min(height, width) < 64:
        return None
    top, left = (max(0, (side - _SIDE) // 2) for side in (height, width))
    middle = pixels[top : top + _SIDE, left : left + _SIDE] / np.iinfo(pixels.dtype).max
    weights = _LUMA if channels == 3 else np.ones(1, np.float32)
    luma = 255 * (middle.astype(np.float32) @ weights)
    row, column = _grid(luma[:_FOR_GRID, :_FOR_GRID])
    on, off = (
        _likeness_of_multiples(luma[(row + shift) % 8 :, (column + shift) % 8 :])
        for shift in (0, 4)
    )
    steps = (np.array(_STEPS)[:, None] * (on - off > _RISE)).max(0)  # false beside NaN
    found = steps > 0
    if found.sum() < _FEWEST_STEPS:
        return None
    usual = np.array(coding_of_quality(50).luma)
    return float(np.median(steps[found] / usual[1:][found]) * usual.mean() / 255)


def _grid(luma: NDArray[np.float32]) -> tuple[int, int]:
    """Tell in which row and column blocks begin: most of their fine coefficients are 0."""
    nothing = np.zeros((8, 8))
    for across in (_at_each_place(luma, _DCT[u]) for u in _FINE):
        for fine in (_at_each_place(across.T, _DCT[v]).T for v in _FINE):
            none = np.abs(fine) < _NEXT_TO_NOTHING
            rows, columns = (8 * (side // 8) for side in none.shape)
            nothing += none[:rows, :columns].reshape(rows // 8, 8, columns // 8, 8).mean((0, 2))
    row, column = divmod(int(nothing.argmax()), 8)
    return row, column


def _at_each_place(lines: NDArray[np.float32], taps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Correlate each line of (H, W) with eight taps, (H, W - 7)."""
    length = lines.shape[1] - 7
    found: NDArray[np.float32] = sum(tap * lines[:, i : i + length] for i, tap in enumerate(taps))
    return found


def _likeness_of_multiples(luma: NDArray[np.float32]) -> NDArray[np.float64]:
    """Tell of each step and coefficient but the mean how near they come to multiples of it.

    Returns:
        (steps, 63) mean cosines, 1 for multiples and about 0 for any values; NaN where too few
        coefficients are large enough to tell.
    """
    rows, columns = (side // 8 for side in luma.shape)
    whole = luma[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8)
    blocks = whole.swapaxes(1, 2).reshape(-1, 8, 8)
    fullest = np.argsort(blocks.var((1, 2)), kind="stable")[-_BLOCKS:]
    found = (_DCT @ blocks[fullest] @ _DCT.T).reshape(-1, 64)[:, 1:]
    likeness = np.full((len(_STEPS), 63), np.nan)
    for i, step in enumerate(_STEPS):
        tells = np.abs(found) > _BEYOND_ZERO * step
        count = tells.sum(0)
        told = count >= _FEWEST
        cosines = np.cos(2 * np.pi / step * found[:, told]) * tells[:, told]
        likeness[i, told] = cosines.sum(0) / count[told]
    return likeness
