"""Nothing stays that is finer than a camera's noise, and nothing moves farther than that noise."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.postprocess.block_stats import block_stats, quiet_correlation, split_luma
from amsnet_cli.postprocess.blocks import BLOCK_SIZE, upsample_blocks
from amsnet_cli.postprocess.sharpness import clip_radius, limit_sharpness

SIGMA = 8 / 255
SIZE = 192


def white(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def interpolated(*shape: int, size: int = 3) -> Tensor:
    """Noise of standard deviation 1 that `size` pixels share."""
    noise = F.avg_pool2d(white(1, *shape), size, stride=1, padding=size // 2)[0]
    return noise / noise.std()


def stripes() -> Tensor:
    """One pixel wide: the finest there is."""
    return (0.5 + 0.2 * (torch.arange(SIZE) % 2 - 0.5)).expand(3, SIZE, SIZE).contiguous()


def sharpness_limited(clean: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    stats = block_stats(clean + noise, clean)
    limit = upsample_blocks(clip_radius(stats), 0, *clean.shape[1:])
    return limit_sharpness(clean, limit), limit


def test_behind_white_noise_nothing_changes():
    clean = stripes()
    result = sharpness_limited(clean, SIGMA * white(*clean.shape))[0]
    assert (result - clean).abs().max() < 0.02 * SIGMA


def test_behind_interpolated_noise_fine_structure_moves_by_a_share_of_its_difference():
    clean = stripes()
    noise = SIGMA * interpolated(*clean.shape)
    result, limit = sharpness_limited(clean, noise)
    change = (result - clean).abs()
    assert (change <= limit + 1e-6).all()
    luma = split_luma(noise)[0]
    difference = (luma[..., 1:] - luma[..., :-1]).square().mean().sqrt()
    correlation = quiet_correlation(block_stats(clean + noise, clean))
    assert correlation == pytest.approx(2 / 3, abs=0.15)  # of means of three
    assert change.mean() == pytest.approx(correlation * float(difference) / 2**0.5, rel=0.1)


@pytest.mark.parametrize("size", [3, 9])
def test_coarse_noise_moves_fine_structure_less(size):
    clean = stripes()
    changes = [
        (sharpness_limited(clean, SIGMA * interpolated(*clean.shape, size=n))[0] - clean)
        .abs()
        .mean()
        for n in (size, size + 4)
    ]
    assert changes[1] < 0.9 * changes[0]


def test_what_pixels_around_share_stays():
    clean = torch.linspace(0.2, 0.8, SIZE).expand(3, SIZE, SIZE).contiguous()
    result = sharpness_limited(clean, SIGMA * interpolated(*clean.shape))[0]
    assert (result - clean)[..., 1:-1].abs().max() < 1e-6


def test_error_of_the_network_goes():
    clean = torch.full((3, SIZE, SIZE), 0.4)
    left = 0.2 * SIGMA * white(*clean.shape, seed=1)
    result = sharpness_limited(clean + left, SIGMA * interpolated(*clean.shape))[0]
    assert (result - clean).square().mean() < 0.6 * left.square().mean()


@pytest.mark.parametrize("rows", [BLOCK_SIZE, 5 * BLOCK_SIZE])
def test_some_rows_at_a_time_give_the_same(rows):
    clean = stripes() + 0.02 * white(3, SIZE, SIZE)
    whole, limit = sharpness_limited(clean, SIGMA * interpolated(*clean.shape))
    for top in range(0, SIZE, rows):
        end = min(top + rows, SIZE)
        above, below = int(top > 0), int(end < SIZE)
        part = clean[:, top - above : end + below]
        mine = limit_sharpness(part, limit[:, top:end], above=above, below=below)
        assert torch.equal(mine, whole[:, top:end])


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (8, 8), (13, 17)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size(size, channels):
    result = sharpness_limited(0.5 + 0.1 * white(channels, *size), 0.1 * white(channels, *size))[0]
    assert result.shape == (channels, *size)
    assert result.isfinite().all()
