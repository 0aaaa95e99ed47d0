from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import skimage.filters
import torch

from amsnet_cli.noise.level import noise_level


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
