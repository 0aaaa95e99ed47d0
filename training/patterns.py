"""Synthetic patterns: fine structure that is rare in photos and that denoisers take for noise.

Meshes, gratings, halftone screens, checks, fur and text, in two colours, slightly warped, blended
over part of a photo.
"""

from __future__ import annotations

import string

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_LETTERS = string.ascii_letters + string.digits


def with_pattern(photo: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blend a random pattern over a random part of a photo.

    Args:
        photo: (H, W, 3) uint8.
        rng: of all random numbers.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = photo.shape[:2]
    draw = (_waves, _waves, _checks, _strands, _strands, _lettering)[rng.integers(6)]
    ink = draw(height, width, rng)[..., None]  # (H, W, 1) in [0, 1]
    base = photo.astype(np.float32)
    if rng.random() < 0.5:  # part of the scene: darkens it
        patterned = base * (1 - rng.uniform(0.1, 0.9) * ink)
    else:
        paper, colour = rng.uniform(0, 255, (2, 3))
        patterned = paper + (colour - paper) * ink
    y, x = (np.sort(rng.integers(-side // 2, side * 3 // 2, 2)) for side in (height, width))
    region = np.zeros((height, width, 1), np.float32)
    region[max(0, y[0]) : max(0, y[1]), max(0, x[0]) : max(0, x[1])] = 1
    mixed = base + region * rng.uniform(0.3, 1.0) * (patterned - base)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _warp_grid(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates, rotated by any angle and slightly warped, as on cloth."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = rng.choice([0.0, rng.uniform(0, np.pi)])
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    warp = rng.uniform(-1e-3, 1e-3, 2) * (rng.random() < 0.5)
    return u + warp[0] * v * v, v + warp[1] * u * u


def _waves(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Gratings, meshes and halftone screens, soft or hard, with periods from 2.1 pixels."""
    u, v = _warp_grid(height, width, rng)
    period = np.exp(rng.uniform(np.log(2.1), np.log(14), 2))
    phase = rng.uniform(0, 2 * np.pi, 2)
    first, second = (
        np.sin(2 * np.pi * u / period[0] + phase[0]),
        np.sin(2 * np.pi * v / (period[0] if rng.random() < 0.6 else period[1]) + phase[1]),
    )
    wave = (first, first * second, np.maximum(first, second))[rng.integers(3)]
    hardness = np.exp(rng.uniform(-1, 2.5))
    return 0.5 + 0.5 * np.tanh(hardness * (wave - rng.uniform(-0.6, 0.6)))


def _checks(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A chequerboard with squares of 1.2 to 12 pixels."""
    u, v = _warp_grid(height, width, rng)
    side = np.exp(rng.uniform(np.log(1.2), np.log(12)))
    squares = ((np.floor(u / side) + np.floor(v / side)) % 2).astype(np.float32)
    return cv2.GaussianBlur(squares, (0, 0), rng.uniform(0.3, 1.0))


def _strands(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Fur, plush, grass and cloth: noise blurred along slowly changing directions."""
    white = rng.standard_normal((height, width)).astype(np.float32)
    length, thickness = np.exp(rng.uniform(np.log(1.5), np.log(6))), rng.uniform(0.4, 1.0)
    start, spread = rng.uniform(0, np.pi), rng.uniform(0.2, 1.2)
    strands, total = np.zeros_like(white), np.zeros_like(white)
    y, x = np.mgrid[-12:13, -12:13].astype(np.float32)
    for angle in start + spread * np.arange(-1, 2):
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        brush = np.exp(-0.5 * ((along / length) ** 2 + (across / thickness) ** 2))
        brush /= np.sqrt(np.square(brush).sum())
        regions = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), 10)
        weight = np.exp(3 * regions / regions.std()).astype(np.float32)
        strands += weight * cv2.filter2D(white, -1, brush)
        total += weight
    return 0.5 + 0.5 * np.tanh(rng.uniform(0.4, 1.5) * strands / total)


def _lettering(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Lines of printed or stroke-font text, level or rotated, sharp or blurred."""
    size = float(np.exp(rng.uniform(np.log(7), np.log(40))))
    lines = [
        "".join(rng.choice(list(_LETTERS + "     "), 1 + int(2.5 * width / size)))
        for _ in range(1 + int(height / size))
    ]
    if rng.random() < 0.6:
        page = Image.new("L", (width, height))
        font = ImageFont.load_default(size)
        content = "\n".join(lines)
        ImageDraw.Draw(page).multiline_text((0, 0), content, fill=255, font=font, spacing=2)
        ink = np.asarray(page)
    else:
        ink = np.zeros((height, width), np.uint8)
        face, thickness = int(rng.integers(8)), max(1, round(size / rng.uniform(8, 20)))
        scale = cv2.getFontScaleFromHeight(face, max(5, round(0.7 * size)), thickness)
        for i, line in enumerate(lines):
            baseline = (0, round((i + 1) * 1.2 * size))
            cv2.putText(ink, line, baseline, face, scale, 255, thickness, cv2.LINE_AA)
    if rng.random() < 0.5:
        rotation = cv2.getRotationMatrix2D((width / 2, height / 2), rng.normal(0, 15), 1.0)
        ink = cv2.warpAffine(ink, rotation, (width, height), borderMode=cv2.BORDER_REFLECT)
    return cv2.GaussianBlur(ink.astype(np.float32) / 255, (0, 0), rng.uniform(0.1, 1.1))
