"""Noise that rows share is found where it is significant."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from amsnet_cli.noise.row_noise import row_noise
from amsnet_cli.noise.sensor import SensorNoise
from tests.test_sensor_noise import BAYER, X_TRANS, colours_of

LAW = SensorNoise(a=2.6e-3, b=3e-5)
SIZE = 480


def dark_photo(shared=0.0, axis=0, brightness=0.05):
    """A photo as a sensor records it, with noise that rows share, in sigmas of the dark."""
    rng = np.random.default_rng(0)
    light = brightness * (astronaut()[:SIZE, :SIZE].mean(2) / 255) ** 2.2
    noise = np.sqrt(LAW.a * light + LAW.b) * rng.standard_normal(light.shape)
    lines = shared * np.sqrt(LAW.b) * rng.standard_normal(SIZE)
    mosaic = light + noise + (lines[:, None] if axis == 0 else lines)
    return torch.from_numpy(mosaic).float(), lines


@pytest.mark.parametrize("tile", [BAYER, X_TRANS, [[3]]])
def test_rows_are_found(tile):
    mosaic, lines = dark_photo(0.35)
    colours = colours_of(tile, SIZE) if tile != [[3]] else torch.ones(3, SIZE, SIZE)
    found = row_noise(mosaic, colours, LAW)
    assert np.var(lines - found.numpy()) < 0.6 * np.var(lines)
    assert row_noise(mosaic.T, colours.transpose(1, 2), LAW) is None


def test_columns_are_found_by_transposing():
    mosaic, lines = dark_photo(0.35, axis=1)
    colours = colours_of(BAYER, SIZE)
    found = row_noise(mosaic.T, colours.transpose(1, 2), LAW)
    assert np.var(lines - found.numpy()) < 0.6 * np.var(lines)


@pytest.mark.parametrize("brightness", [0.05, 0.6])
def test_what_is_shown_is_not_taken_for_it(brightness):
    mosaic, _ = dark_photo(brightness=brightness)
    assert row_noise(mosaic, colours_of(BAYER, SIZE), LAW) is None


def test_lines_of_the_picture_stay():
    mosaic, _ = dark_photo()
    mosaic[::7] += 0.05
    assert row_noise(mosaic, colours_of(BAYER, SIZE), LAW) is None


def test_small_and_even_mosaics_have_none():
    assert row_noise(torch.rand(40, 40), torch.ones(3, 40, 40), LAW) is None
    assert row_noise(torch.zeros(100, 100), torch.ones(3, 100, 100), LAW) is None
