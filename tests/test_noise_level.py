from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import skimage.filters
import torch
from PIL import Image

from amsnet_cli.noise.level import noise_level
from amsnet_cli.noise.whiteness import is_white


def noisy(picture: np.ndarray, noise: np.ndarray) -> torch.Tensor:
    eight = (picture + noise).round().clip(0, 255) / 255
    return torch.from_numpy(eight.astype(np.float32)).permute(2, 0, 1)


@pytest.mark.parametrize("sigma", [5, 10, 25, 50])
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
def test_white_noise_is_measured_within_a_fifth(name, sigma):
    picture = getattr(skimage.data, name)().astype(np.float32)
    noise = np.random.default_rng(0).normal(0, sigma, picture.shape)
    level = noise_level(noisy(picture, noise)).mean() * 255
    # Fur has texture of its own, which adds to faint noise.
    assert float(level) == pytest.approx(sigma, rel=0.2, abs=2)


def test_clean_pictures_have_next_to_none():
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        picture = getattr(skimage.data, name)().astype(np.float32)
        assert noise_level(noisy(picture, np.zeros(1))).max() * 255 < 3


def test_noise_that_neighbours_share_counts_in_full():
    picture = skimage.data.astronaut().astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 1, picture.shape)
    noise = skimage.filters.gaussian(noise, 0.8, channel_axis=-1)
    levels = noise_level(noisy(picture, noise * 10 / noise.std())) * 255
    assert levels.numpy() == pytest.approx(10, rel=0.15)


def test_each_channel_has_its_own():
    noise = np.random.default_rng(0).normal(0, 1, (200, 200, 3)) * [5, 10, 20]
    assert (
        noise_level(noisy(np.full((200, 200, 3), 128.0), noise)).numpy() * 255
    ) == pytest.approx([5, 10, 20], rel=0.1)


def test_without_usable_blocks_there_is_no_level():
    assert noise_level(torch.rand(3, 20, 21)).isnan().all(), "too small"
    assert noise_level(torch.ones(1, 64, 64)).isnan().all(), "burnt out"


PICTURES = ("astronaut", "coffee", "chelsea", "rocket")


def noisy_picture(
    name: str, sigma: float, softness: float = 0.0, *, grey: bool = False
) -> torch.Tensor:
    """A picture under noise that is blurred by `softness` pixels."""
    picture = getattr(skimage.data, name)().astype(np.float32)
    if grey:
        picture = picture.mean(2, keepdims=True)
    noise = np.random.default_rng(0).normal(0, 1, picture.shape)
    noise = skimage.filters.gaussian(noise, softness, channel_axis=-1) if softness else noise
    return noisy(picture, noise * sigma / noise.std())


class TestWhiteness:
    @pytest.mark.parametrize("sigma", [4, 60])
    @pytest.mark.parametrize("name", PICTURES)
    def test_white_noise_is_detected_in_any_picture(self, name, sigma):
        assert is_white(noisy_picture(name, sigma))

    @pytest.mark.parametrize("name", PICTURES)
    def test_grey_pictures_too_with_one_channel_or_three(self, name):
        one = noisy_picture(name, 20, grey=True)
        assert is_white(one)
        assert is_white(one.expand(3, -1, -1))

    @pytest.mark.parametrize("sigma", [0, 4, 60])
    @pytest.mark.parametrize("softness", [0.5, 1.5])
    @pytest.mark.parametrize("name", PICTURES)
    def test_correlated_noise_is_not_white(self, name, sigma, softness):
        assert not is_white(noisy_picture(name, sigma, softness))

    @pytest.mark.parametrize("sigma", [4, 25])
    @pytest.mark.parametrize("name", PICTURES)
    def test_demosaicked_noise_is_not_white(self, name, sigma):
        picture = noisy_picture(name, sigma)
        height, width = (side // 2 * 2 for side in picture.shape[1:])
        picture = picture[:, :height, :width]
        green = torch.zeros(1, height, width)
        green[:, ::2, 1::2] = green[:, 1::2, ::2] = 1
        red, blue = torch.zeros_like(green), torch.zeros_like(green)
        red[:, ::2, ::2] = blue[:, 1::2, 1::2] = 1
        sites = torch.cat([red, green, blue])
        taps = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).expand(3, 1, 3, 3)
        sums, weights = (
            torch.nn.functional.conv2d(x[None], taps, padding=1, groups=3)[0]
            for x in (picture * sites, sites)
        )
        assert not is_white(sums / weights)

    @pytest.mark.parametrize("name", PICTURES)
    def test_nor_is_what_dithering_leaves(self, name):
        picture = Image.fromarray(getattr(skimage.data, name)())
        web = picture.convert("P", palette=Image.Palette.WEB)
        for colours in (web, picture.quantize(32), picture.convert("1")):
            pixels = np.asarray(colours.convert("RGB"), dtype=np.float32)
            assert not is_white(noisy(pixels, np.zeros(1)))

    def test_without_usable_blocks_there_is_no_level(self):
        assert not is_white(torch.rand(3, 7, 100)) and not is_white(torch.rand(3, 100, 7))
        assert not is_white(torch.rand(3, 16, 16)), "too small"
        assert not is_white(torch.rand(3, 64, 64).round()), "clipped all over"
        assert not is_white(torch.full((3, 64, 64), 0.5)), "no noise"
