"""Simulated star fields, and the fluxes of their stars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SPACING = 70
"""Pixels from star to star."""
SNRS = (5, 5, 6, 8, 20, 50, 200, 1000)
"""Signal-to-noise ratios of the stars, in their aperture."""


@dataclass(frozen=True)
class StarField:
    """A picture in electrons, and its stars.

    `snrs` and `places` (row and column) have one entry a star; `radius` is that of the aperture.
    """

    noisy: np.ndarray
    light: np.ndarray
    places: np.ndarray
    snrs: np.ndarray
    radius: float

    @property
    def sky(self) -> np.ndarray:
        """Where there is no star."""
        return self.light < self.light.min() + 0.01 * np.sqrt(self.light.min())

    def fluxes(self, picture: np.ndarray) -> np.ndarray:
        """Aperture fluxes: the sum within the radius, less the median around."""
        found = []
        for row, column in self.places:
            top, left = int(row) - 25, int(column) - 25
            part = picture[top : top + 51, left : left + 51]
            y, x = np.mgrid[top : top + 51, left : left + 51]
            away = np.hypot(y - row, x - column)
            inside = np.clip(self.radius + 0.5 - away, 0, 1)
            around = np.mean(part[(away > 2.5 * self.radius) & (away < 4 * self.radius)])
            found.append((part * inside).sum() - around * inside.sum())
        return np.array(found)


def star_field(sky: float, seed: int, *, read: float = 5.0, fwhm: float = 3.0, side: int = 8):
    """Simulate side x side Gaussian stars on an even sky."""
    rng = np.random.default_rng(seed)
    length, sigma, radius = side * SPACING, fwhm / 2.355, 1.5 * fwhm
    y, x = np.mgrid[:length, :length]
    noise = np.pi * radius**2 * (sky + read**2)
    light = np.full((length, length), float(sky))
    places, snrs = [], []
    for k in range(side**2):
        row, column = ((i + 0.5) * SPACING + rng.uniform(-8, 8) for i in divmod(k, side))
        snr = SNRS[(3 * k + k // side) % len(SNRS)]
        flux = (snr**2 + np.sqrt(snr**4 + 4 * snr**2 * noise)) / 2
        shape = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma**2))
        light += flux * shape / (2 * np.pi * sigma**2)
        places.append((row, column))
        snrs.append(snr)
    noisy = rng.poisson(light) + rng.normal(0, read, light.shape)
    return StarField(noisy, light, np.array(places), np.array(snrs), radius)
