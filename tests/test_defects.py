"""Hot and dead photosites are found, and stars are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from amsnet_cli.noise.defects import find_defects
from amsnet_cli.noise.sensor import SensorNoise
from tests.test_sensor_noise import BAYER, X_TRANS, colours_of

LAW = SensorNoise(a=6.9e-4, b=2.1e-6)
NEUTRAL = (0.5, 1.0, 0.625)
SIZE, SKY = 480, 0.02
SIGMA = math.sqrt(6.9e-4 * SKY + 2.1e-6)
TILES = {"bayer": BAYER, "xtrans": X_TRANS, "mono": [[3]]}


@pytest.fixture(params=TILES)
def sensor(request):
    """Colours, and what each photosite gives for grey."""
    colours = colours_of(TILES[request.param], SIZE)
    if request.param == "mono":
        return torch.ones(3, SIZE, SIZE), np.ones((SIZE, SIZE))
    return colours, (colours * torch.tensor(NEUTRAL)[:, None, None]).sum(0).numpy()


def recorded(light, law=LAW):
    noise = np.random.default_rng(0).standard_normal(light.shape)
    return torch.from_numpy((light + np.sqrt(law.a * light + law.b) * noise).clip(-1, 1)).float()


def colour_of_star(kelvin):
    """Red, green and blue by Planck's law, relative to light of 5500 K, the brightest 1."""

    def planck(t):
        waves = np.array([0.6, 0.53, 0.46])
        return 1 / (np.exp(14388 / (waves * t)) - 1)

    ratio = planck(kelvin) / planck(5500)
    return ratio / ratio.max()


def stars(colours, grey, seeing, peak):
    """Draw a star in each square of 16, anywhere and of any colour; its peak in sigmas."""
    rng = np.random.default_rng(1)
    spread, light = seeing / 2.3548, np.zeros((SIZE, SIZE))

    def share(places, centre):
        edges = (np.append(places, places[-1] + 1) - 0.5 - centre) / spread / math.sqrt(2)
        return np.diff([math.erf(edge) for edge in edges]) / 2

    for y in range(0, SIZE, 16):
        for x in range(0, SIZE, 16):
            centre, (rows, columns) = rng.uniform(5, 11, 2), (np.arange(16), np.arange(16))
            kernel = np.outer(share(rows, centre[0]), share(columns, centre[1]))
            colour = colour_of_star(10 ** rng.uniform(3.48, 4.2))
            part = np.s_[y : y + 16, x : x + 16]
            tint = (colours.numpy()[(slice(None), *part)] * colour[:, None, None]).max(0)
            light[part] = kernel / kernel.max() * tint * grey[part] * peak * SIGMA
    return light


@pytest.mark.parametrize("seeing", [0.7, 2.0])
@pytest.mark.parametrize("peak", [5, 50, 400])
def test_stars_are_kept(sensor, seeing, peak):
    colours, grey = sensor
    light = stars(colours, grey, seeing, peak)
    mosaic = recorded(SKY * grey + light)
    found = find_defects(mosaic, colours, LAW, neutral=NEUTRAL).numpy()
    assert light[found].sum() < 0.01 * light.sum()


@pytest.mark.parametrize(
    ("sky", "value", "law"),
    [(SKY, 0.6, LAW), (0.6, 0.0, SensorNoise(a=1.7e-5, b=5e-9))],
    ids=["hot", "dead"],
)
def test_defects_are_found(sensor, sky, value, law):
    colours, grey = sensor
    bad = torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(0)) < 3e-4
    mosaic = torch.where(bad, value, recorded(sky * grey, law))
    found = find_defects(mosaic, colours, law, neutral=NEUTRAL)
    assert (found & bad).sum() > 0.9 * bad.sum()
    assert not (found & ~bad).any()


def test_defects_at_the_border_are_found():
    mosaic = recorded(np.full((96, 96), SKY))
    places = [(0, 0), (0, 50), (95, 95), (1, 30), (40, 0)]
    for place in places:
        mosaic[place] = 0.9
    found = find_defects(mosaic, torch.ones(3, 96, 96), LAW)
    assert sorted(map(tuple, found.nonzero().tolist())) == sorted(places)


@pytest.mark.parametrize("law", [LAW, SensorNoise(a=1.7e-5, b=5e-9)])
def test_photos_have_none(sensor, law):
    colours, grey = sensor
    light = (astronaut()[:SIZE, :SIZE] / 255) ** 2.2
    light = (light.transpose(2, 0, 1) * colours.numpy()).max(0) * grey
    assert find_defects(recorded(light, law), colours, law, neutral=NEUTRAL).sum() <= 2


def test_each_photosite_may_have_its_own_noise():
    mosaic, colours = recorded(np.full((96, 96), SKY)), torch.ones(3, 96, 96)
    mosaic[50, 50] = 0.9
    planes = SensorNoise(a=torch.full((1, 96, 96), LAW.a), b=torch.full((1, 96, 96), LAW.b))
    assert torch.equal(find_defects(mosaic, colours, planes), find_defects(mosaic, colours, LAW))
