"""When a fit takes what a network removes for noise, and when for faint texture."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F

from amsnet_cli.fitting.noise_confidence import confidence_of, noise_confidence
from amsnet_cli.photos.photo import Photo
from amsnet_cli.postprocess.block_stats import block_stats


@pytest.fixture(scope="module")
def clean() -> torch.Tensor:
    pixels = np.ascontiguousarray(skimage.data.coffee()[:320, :320])
    return 0.1 + 0.8 * torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def noise_like(x: torch.Tensor, sigma: float) -> torch.Tensor:
    return sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def believed(clean: torch.Tensor, noise: torch.Tensor, step: float | None = None) -> float:
    return confidence_of(block_stats(clean + noise, clean), clean + noise, step)


@pytest.mark.parametrize("sigma", [4, 8, 30])
def test_even_and_strong_noise_is_noise(clean, sigma):
    assert believed(clean, noise_like(clean, sigma / 255)) > 0.95


def test_of_faint_differences_only_those_that_neighbours_share_are_surely_noise(clean):
    white = noise_like(clean, 1.5 / 255)
    shared = 3 * F.avg_pool2d(white[None], 3, stride=1, padding=1)[0]
    assert believed(clean, white) < 0.3
    assert believed(clean, shared) > 0.8


def test_what_neighbours_share_says_less_in_a_jpeg_unless_its_steps_are_coarse(clean):
    white = noise_like(clean, 0.8 / 255)
    some = white + 1.5 * F.avg_pool2d(white[None], 3, stride=1, padding=1)[0]
    camera, fine, coarse = (believed(clean, some, step) for step in (None, 5 / 255, 25 / 255))
    assert fine < 0.6 and min(camera, coarse) > 0.9


def test_the_step_is_the_files_own(clean):
    noisy = clean + noise_like(clean, 1.0 / 255)
    pixels = (noisy.permute(1, 2, 0).numpy() * 65535).round().astype(np.uint16)
    stats = block_stats(noisy, clean)
    lossless = noise_confidence(stats, noisy, Photo(pixels=pixels))
    coarse = noise_confidence(stats, noisy, Photo(pixels=pixels, quantisation_step=25 / 255))
    assert lossless < 0.5 < 0.9 < coarse
