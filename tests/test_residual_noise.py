"""What a network leaves of faint noise is smoothed, and nothing else."""

from __future__ import annotations

import pytest
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.postprocess.block_stats import BlockStats, block_stats, quiet_power, split_luma
from amsnet_cli.postprocess.blocks import BLOCK_SIZE, upsample_blocks
from amsnet_cli.postprocess.config import PostprocessConfig
from amsnet_cli.postprocess.residual_noise import smooth_residual_noise, smoothing_weights

SIGMA = 12 / 255
"""Of the noise that was removed."""


def stats_of(picture: Tensor, sigma: float = SIGMA) -> BlockStats:
    return block_stats(picture + sigma * white(*picture.shape, seed=1), picture)


def smooth(picture: Tensor, sigma: float = SIGMA) -> Tensor:
    cells = smoothing_weights(stats_of(picture, sigma))
    return smooth_residual_noise(picture, upsample_blocks(cells, 0, *picture.shape[1:]))


def white(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def share_of_noise() -> list[float]:
    """What is half smoothed away, in luma and chroma."""
    share = PostprocessConfig().smoothed_share
    return [share * power**0.5 for power in quiet_power(stats_of(shading()))]


def shading() -> Tensor:
    ramp = torch.linspace(0.40, 0.44, 192)
    return torch.stack(
        [0.8 * ramp[:, None] + 0.1 * ramp, 0.9 * ramp.expand(192, 192), ramp.expand(192, 192)]
    )


def test_shading_stays_to_the_edges():
    assert (smooth(shading()) - shading()).abs().max() < 0.2 / 255


def test_faint_noise_goes_from_shading():
    clean = shading()
    left = white(*clean.shape) * 0.5 * share_of_noise()[0]
    assert (smooth(clean + left) - clean).square().mean() < 0.3 * left.square().mean()


def test_coarse_colour_noise_goes():
    clean = shading()
    blotches = F.avg_pool2d(white(1, 3, 192, 192), 9, stride=1, padding=4)[0]
    colour = split_luma(blotches)[1]
    colour = colour / colour.std() * 0.5 * share_of_noise()[1]
    kept = split_luma(smooth(clean + colour) - clean)[1]
    assert kept.square().mean() < 0.35 * colour.square().mean()


def test_where_no_noise_was_nothing_changes():
    picture = shading() + 0.002 * white(3, 192, 192)
    assert torch.allclose(smooth(picture, sigma=0), picture, atol=1e-5)


@pytest.mark.parametrize("step", [8, 20, 100])
def test_edges_stay(step):
    picture = torch.full((3, 128, 128), 0.3)
    picture[:, :, 61:] += step / 255
    change = (smooth(picture) - picture).abs().max() * 255
    assert change < 0.12 * step
    assert change < 1.5


@pytest.mark.parametrize("name", ["coffee", "astronaut", "chelsea"])
def test_pictures_hardly_change(name):
    picture = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1).float() / 255
    change = smooth(picture) - picture
    assert change.square().mean().sqrt() < 1 / 255
    assert change.mean((1, 2)).abs().max() < 0.1 / 255


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (8, 8), (13, 17)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size(size, channels):
    picture = 0.5 + 0.1 * white(channels, *size)
    result = smooth(picture)
    assert result.shape == picture.shape
    assert result.isfinite().all()


@pytest.mark.parametrize("rows", [BLOCK_SIZE, 5 * BLOCK_SIZE])
def test_some_rows_at_a_time_give_the_same(rows):
    picture = shading() + 0.002 * white(3, 192, 192)
    whole, cells = smooth(picture), smoothing_weights(stats_of(picture))
    for top in range(0, 192, rows):
        part = picture[:, top : top + rows]
        mine = smooth_residual_noise(part, upsample_blocks(cells, top, *part.shape[1:]))
        assert torch.allclose(mine, whole[:, top : top + rows], atol=1e-6)
