"""Detect earlier JPEG compression from pixels alone.

JPEG leaves each DCT coefficient of each block a multiple of a quantisation step. Pixels keep that
through any lossless format and through cropping, but not through resizing. After Fan and de
Queiroz, "Identification of bitmap compression history" (IEEE Transactions on Image Processing,
2003).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_STANDARD_LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
).ravel()
"""Luminance quantisation steps of Rec. ITU-T T.81, table K.1; libjpeg scales them by quality."""
_LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)

_PLACES = np.arange(8)
_DCT = np.cos((2 * _PLACES + 1) * _PLACES[:, None] * np.pi / 16).astype(np.float32) / 2
_DCT[0] /= np.sqrt(2)


@dataclass(frozen=True, kw_only=True)
class JpegHistoryConfig:
    """Numbers of `estimate_quantisation_step`; `tests/test_jpeg_history.py` shows that they hold.

    Attributes:
        side: of the searched square in the middle of the image, in pixels.
        max_blocks: blocks whose coefficients are compared: those of the highest variance.
        zero_frequencies: rows and columns of coefficients that are 0 in many blocks of a JPEG.
        zero_below: absolute value of a coefficient that counts as 0, of 255.
        max_step: largest quantisation step that is tried, of 255; the smallest is 2.
        min_multiple: share of a step below which a coefficient does not count, as most are small
            in all images.
        min_coefficients: of one frequency, from which its step is measured.
        min_periodicity: how much nearer to multiples coefficients must be on the block grid than
            between blocks, as a mean cosine.
        min_frequencies: whose steps must be found.
    """

    side: int = 512
    max_blocks: int = 512
    zero_frequencies: tuple[int, ...] = (3, 5)
    zero_below: float = 0.5
    max_step: int = 40
    min_multiple: float = 0.75
    min_coefficients: int = 100
    min_periodicity: float = 0.35
    min_frequencies: int = 8


def estimate_quantisation_step(
    pixels: NDArray[np.integer], config: JpegHistoryConfig = JpegHistoryConfig()
) -> float | None:
    """Estimate the quantisation step of an image that was a JPEG once, by its pixels alone.

    Args:
        pixels: (H, W, C), C = 1 or 3, uint8 or uint16.
        config: see `JpegHistoryConfig`.

    Returns:
        The mean quantisation step of its luma in [0, 1] units, by libjpeg's scale of tables; None
        where nothing shows that it was a JPEG.
    """
    height, width, channels = pixels.shape
    if (height // 8 - 1) * (width // 8 - 1) < config.min_coefficients:
        return None
    top, left = (max(0, (side - config.side) // 2) for side in (height, width))
    middle = pixels[top : top + config.side, left : left + config.side]
    unit = (middle / np.iinfo(pixels.dtype).max).astype(np.float32)
    luma = 255 * (unit @ (_LUMA_WEIGHTS if channels == 3 else np.ones(1, np.float32)))
    row, column = _block_origin(luma, config)
    steps = np.arange(2, config.max_step + 1)
    on_grid, between = (
        _periodicity(luma[(row + shift) % 8 :, (column + shift) % 8 :], steps, config)
        for shift in (0, 4)
    )
    plausible = on_grid - between > config.min_periodicity  # false beside NaN
    largest = (steps[:, None] * plausible).max(0)  # (63,)
    found = largest > 0
    if found.sum() < config.min_frequencies:
        return None
    scale = np.median(largest[found] / _STANDARD_LUMA[1:][found])
    return float(scale * _STANDARD_LUMA.mean() / 255)


def _block_origin(luma: NDArray[np.float32], config: JpegHistoryConfig) -> tuple[int, int]:
    """Row and column where blocks begin: there most of the fine coefficients are 0."""
    zeros = np.zeros((8, 8))
    for across in (_correlate_rows(luma, _DCT[u]) for u in config.zero_frequencies):
        for fine in (_correlate_rows(across.T, _DCT[v]).T for v in config.zero_frequencies):
            zero = np.abs(fine) < config.zero_below
            rows, columns = (8 * (side // 8) for side in zero.shape)
            zeros += zero[:rows, :columns].reshape(rows // 8, 8, columns // 8, 8).mean((0, 2))
    row, column = divmod(int(zeros.argmax()), 8)
    return row, column


def _correlate_rows(rows: NDArray[np.float32], taps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Correlate each row of (H, W) with eight taps, (H, W - 7)."""
    length = rows.shape[1] - 7
    found: NDArray[np.float32] = sum(tap * rows[:, i : i + length] for i, tap in enumerate(taps))
    return found


def _periodicity(
    luma: NDArray[np.float32], steps: NDArray[np.int64], config: JpegHistoryConfig
) -> NDArray[np.float64]:
    """How near each coefficient but the mean comes to multiples of each step.

    Returns:
        (steps, 63) mean cosines, 1 for multiples and about 0 for any values; NaN where too few
        coefficients are large enough.
    """
    rows, columns = (side // 8 for side in luma.shape)
    whole = luma[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8)
    blocks = whole.swapaxes(1, 2).reshape(-1, 8, 8)
    fullest = np.argsort(blocks.var((1, 2)), kind="stable")[-config.max_blocks :]
    found = (_DCT @ blocks[fullest] @ _DCT.T).reshape(-1, 64)[:, 1:]
    periodicity = np.full((len(steps), 63), np.nan)
    for i, step in enumerate(steps.tolist()):
        large = np.abs(found) > config.min_multiple * step
        count = large.sum(0)
        enough = count >= config.min_coefficients
        cosines = np.cos(2 * np.pi / step * found[:, enough]) * large[:, enough]
        periodicity[i, enough] = cosines.sum(0) / count[enough]
    return periodicity
