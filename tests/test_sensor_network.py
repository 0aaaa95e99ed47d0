import pytest
import torch

from amsnet_cli.core.networks.compact import CompactUNetConfig
from amsnet_cli.core.networks.mosaic import (
    MosaicNetwork,
    MosaicNetworkConfig,
    denoise_stabilised,
    red_corner,
)
from tests.test_sensor_noise import BAYER, X_TRANS, colours_of

SMALL = MosaicNetworkConfig(
    unet=CompactUNetConfig(in_channels=7, out_channels=1, widths=(8, 8), blocks=(1, 1), unshuffle=2)
)
SIGMA = torch.full((1, 1, 1, 1), 0.02)
MONOCHROME = [[3]]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = MosaicNetwork(SMALL)
    with torch.no_grad():
        network.unet.tail.weight.mul_(10)
    return network.eval()


def mosaic_of(size=96, seed=0):
    return torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(seed))


def hidden_of(size=96, share=0.3):
    return mosaic_of(size, seed=1) < share


@pytest.mark.parametrize("tile", [BAYER, X_TRANS, MONOCHROME])
@torch.inference_mode()
def test_a_hidden_photosite_does_not_see_itself(network, tile):
    colours, hidden = colours_of(tile, 96)[None], hidden_of()
    seen = network(mosaic_of(), SIGMA, colours, hidden)
    other = torch.where(hidden, mosaic_of(seed=2), mosaic_of())
    assert torch.equal(network(other, SIGMA, colours, hidden), seen)
    assert not torch.equal(network(other, SIGMA, colours, torch.zeros_like(hidden)), seen)


@torch.inference_mode()
def test_a_hidden_photosite_is_filled_from_its_own_colour(network):
    colours = colours_of(BAYER, 96)[None]
    levels = torch.tensor([0.2, 0.5, 0.8])[None, :, None, None]
    flat = (colours * levels).sum(1, keepdim=True)
    hidden = hidden_of()
    mean, variance = network._neighbours(torch.where(hidden, 9, flat), colours, (~hidden).float())
    assert torch.allclose(mean, flat, atol=1e-5)
    assert float(variance.max()) < 1e-5


@pytest.mark.parametrize("tile", [BAYER, X_TRANS, MONOCHROME])
@torch.inference_mode()
def test_neighbours_are_weighted_by_their_distance(network, tile):
    """Against the definition, photosite by photosite."""
    height, width, half = 22, 17, len(network.kernel) // 2
    colours, mosaic = colours_of(tile, 96)[None, :, :height, :width], mosaic_of()[..., :22, :17]
    visible = (~hidden_of()[..., :height, :width]).float()
    mean, variance = network._neighbours(mosaic, colours, visible)
    for y, x in [(0, 0), (3, 16), (11, 8), (12, 9), (21, 2)]:
        rows = slice(max(0, y - half), y + half + 1)
        columns = slice(max(0, x - half), x + half + 1)
        down = network.kernel[rows.start - y + half :][: min(rows.stop, height) - rows.start]
        across = network.kernel[columns.start - x + half :][
            : min(columns.stop, width) - columns.start
        ]
        same = (colours[0, :, rows, columns] == colours[0, :, y : y + 1, x : x + 1]).all(0)
        weights = down[:, None] * across * same * visible[0, 0, rows, columns]
        around = mosaic[0, 0, rows, columns]
        expected = (weights * around).sum() / weights.sum()
        spread = (weights * (around - expected) ** 2).sum() / weights.sum()
        assert float(mean[0, 0, y, x]) == pytest.approx(float(expected), abs=1e-5)
        assert float(variance[0, 0, y, x]) == pytest.approx(float(spread), abs=1e-5)


@torch.inference_mode()
def test_large_holes_are_filled(network):
    colours, hidden = colours_of(BAYER, 96)[None], torch.zeros(1, 1, 96, 96, dtype=torch.bool)
    hidden[..., 20:60, 20:60] = True
    assert network(mosaic_of(), SIGMA, colours, hidden).isfinite().all()


@torch.inference_mode()
def test_little_noise_means_little_change(network):
    colours, hidden = colours_of(BAYER, 96)[None], torch.zeros(1, 1, 96, 96, dtype=torch.bool)
    changes = [
        (network(mosaic_of(), torch.full_like(SIGMA, s), colours, hidden) - mosaic_of()).abs().max()
        for s in (1e-6, 1e-2)
    ]
    assert float(changes[0]) < 1e-3 * float(changes[1])


@pytest.mark.parametrize("size", [(96, 96), (95, 93), (33, 64)])
@pytest.mark.parametrize("tile", [BAYER, X_TRANS, MONOCHROME])
def test_any_size_keeps_its_shape(network, size, tile):
    height, width = size
    mosaic, colours = mosaic_of()[..., :height, :width], colours_of(tile, 96)[None]
    colours = colours[..., :height, :width]
    hidden = torch.zeros_like(mosaic, dtype=torch.bool)
    denoised = denoise_stabilised(network, mosaic, SIGMA, colours, hidden)
    assert denoised.shape == mosaic.shape
    assert denoised.isfinite().all()


@pytest.mark.parametrize(("top", "left"), [(0, 1), (1, 0), (1, 1)])
def test_every_phase_of_bayer_is_denoised_alike(network, top, left):
    mosaic, colours = mosaic_of(), colours_of(BAYER, 96)[None]
    hidden = torch.zeros_like(mosaic, dtype=torch.bool)
    whole = denoise_stabilised(network, mosaic, SIGMA, colours, hidden)
    mosaic, colours, hidden = (x[..., top:, left:] for x in (mosaic, colours, hidden))
    part = denoise_stabilised(network, mosaic, SIGMA, colours, hidden)
    inner = slice(32, 64)
    moved = part[..., 32 - top : 64 - top, 32 - left : 64 - left]
    assert torch.allclose(moved, whole[..., inner, inner], atol=1e-5)


def test_red_is_found():
    bayer = colours_of(BAYER, 12)
    assert [red_corner(bayer.roll((i, j), (1, 2))) for i in (0, 1) for j in (0, 1)] == [
        (0, 0), (0, 1), (1, 0), (1, 1),
    ]  # fmt: skip
    assert red_corner(colours_of(X_TRANS, 12)) == (0, 0)
    assert red_corner(colours_of(MONOCHROME, 12)) == (0, 0)
    # Two by two photosites of X-Trans look like Bayer.
    assert red_corner(colours_of(X_TRANS, 12).roll((-1, -3), (1, 2))) == (0, 0)
