"""Detect an earlier JPEG compression from pixels alone.

JPEG leaves each DCT coefficient of each block a multiple of a quantisation step. Pixels keep that
through lossless formats and cropping, but not through resizing. After Fan and de Queiroz,
"Identification of bitmap compression history" (IEEE Transactions on Image Processing, 2003).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.photos.formats.jpeg_segments import coding_of_quality

_SIDE = 512
"""Side in pixels of the central crop that is examined."""
_BLOCKS = 512
"""Blocks whose coefficients are compared with steps: those of the largest variance."""
_GRID_SIDE = 256
"""Side in pixels of the part in which the block grid is located."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_FINE = (3, 5)
"""Frequencies, of eight, whose coefficients are 0 in many blocks: their steps are coarse."""
_ZERO = 0.5
_STEPS = range(2, 41)
_SMALLEST_COEFFICIENT = 0.75
"""In steps: smaller coefficients are left out, as most are small in all pictures."""
_MIN_COEFFICIENTS, _MIN_RISE, _MIN_STEPS = 100, 0.35, 8
"""Coefficients that one step needs; by how much the likeness to its multiples must be higher on
the block grid than between blocks; frequencies whose steps must be found."""

_PLACES = np.arange(8)
_DCT = np.cos((2 * _PLACES + 1) * _PLACES[:, None] * np.pi / 16).astype(np.float32) / 2
_DCT[0] /= np.sqrt(2)


def estimate_quantisation_step(pixels: NDArray[np.integer]) -> float | None:
    """Estimate the quantisation step of an earlier JPEG compression.

    Args:
        pixels: (H, W, C), C = 1 or 3, uint8 or uint16.

    Returns:
        The mean quantisation step of the brightness in [0, 1] units, on libjpeg's scale of
        tables; None where no compression shows.
    """
    height, width, channels = pixels.shape
    if min(height, width) < 64:
        return None
    top, left = (max(0, (side - _SIDE) // 2) for side in (height, width))
    middle = pixels[top : top + _SIDE, left : left + _SIDE] / np.iinfo(pixels.dtype).max
    weights = _LUMA if channels == 3 else np.ones(1, np.float32)
    luma = 255 * (middle.astype(np.float32) @ weights)
    row, column = _locate_grid(luma[:_GRID_SIDE, :_GRID_SIDE])
    on, off = (
        _likeness_to_multiples(luma[(row + shift) % 8 :, (column + shift) % 8 :])
        for shift in (0, 4)
    )
    steps = (np.array(_STEPS)[:, None] * (on - off > _MIN_RISE)).max(0)  # false beside NaN
    found = steps > 0
    if found.sum() < _MIN_STEPS:
        return None
    usual = np.array(coding_of_quality(50).luma)
    return float(np.median(steps[found] / usual[1:][found]) * usual.mean() / 255)


def _locate_grid(luma: NDArray[np.float32]) -> tuple[int, int]:
    """Return the row and column, below 8, where blocks begin: most fine coefficients are 0."""
    zeros = np.zeros((8, 8))
    for across in (_correlate_rows(luma, _DCT[u]) for u in _FINE):
        for fine in (_correlate_rows(across.T, _DCT[v]).T for v in _FINE):
            zero = np.abs(fine) < _ZERO
            rows, columns = (8 * (side // 8) for side in zero.shape)
            zeros += zero[:rows, :columns].reshape(rows // 8, 8, columns // 8, 8).mean((0, 2))
    row, column = divmod(int(zeros.argmax()), 8)
    return row, column


def _correlate_rows(rows: NDArray[np.float32], taps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Correlate each row of (H, W) with eight taps: (H, W - 7)."""
    length = rows.shape[1] - 7
    result: NDArray[np.float32] = sum(tap * rows[:, i : i + length] for i, tap in enumerate(taps))
    return result


def _likeness_to_multiples(luma: NDArray[np.float32]) -> NDArray[np.float64]:
    """Measure for each step and frequency how near the coefficients are to its multiples.

    Returns:
        (steps, 63) mean cosines, 1 for multiples and about 0 for any values; NaN where too few
        coefficients are large enough.
    """
    rows, columns = (side // 8 for side in luma.shape)
    whole = luma[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8)
    blocks = whole.swapaxes(1, 2).reshape(-1, 8, 8)
    fullest = np.argsort(blocks.var((1, 2)), kind="stable")[-_BLOCKS:]
    coefficients = (_DCT @ blocks[fullest] @ _DCT.T).reshape(-1, 64)[:, 1:]
    likeness = np.full((len(_STEPS), 63), np.nan)
    for i, step in enumerate(_STEPS):
        large = np.abs(coefficients) > _SMALLEST_COEFFICIENT * step
        count = large.sum(0)
        enough = count >= _MIN_COEFFICIENTS
        cosines = np.cos(2 * np.pi / step * coefficients[:, enough]) * large[:, enough]
        likeness[i, enough] = cosines.sum(0) / count[enough]
    return likeness
