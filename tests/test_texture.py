from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F

from amsnet_cli.postprocess.block_stats import block_stats, split_luma
from amsnet_cli.postprocess.blocks import BLOCK_SIZE, BlockStack, upsample_blocks
from amsnet_cli.postprocess.texture import blend_residual, blend_weights


def tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255


def fused(noisy: torch.Tensor, denoised: torch.Tensor, detail: float = 1.0) -> torch.Tensor:
    removed = block_stats(noisy, denoised)
    stays = blend_weights(removed, None, None, detail)
    stays = upsample_blocks(stays, 0, *noisy.shape[1:])
    return blend_residual(noisy, denoised, stays[:1], stays[1:])


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(10 * torch.log10(1 / (a - b).square().mean()))


@pytest.fixture(scope="module")
def clean() -> torch.Tensor:
    return 0.1 + 0.8 * tensor(skimage.data.coffee()[:320, :320])


def noise_like(x: torch.Tensor, sigma: float) -> torch.Tensor:
    return sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sigma", [4, 8, 30])
def test_a_perfect_denoiser_is_believed(clean, sigma):
    noisy = clean + noise_like(clean, sigma / 255)
    assert torch.equal(fused(noisy, clean, detail=0), clean)
    assert psnr(fused(noisy, clean), clean) > psnr(noisy, clean) + 15


def test_removed_structure_comes_back(clean):
    mesh = torch.zeros_like(clean)
    rows, columns = torch.arange(160)[:, None], torch.arange(160)
    mesh[:, 80:240, 80:240] = 0.06 * ((rows % 3 == 0) ^ (columns % 3 == 0)).float()
    truth = clean + mesh
    noisy = truth + noise_like(truth, 4 / 255)
    result = fused(noisy, clean)  # a denoiser that takes the mesh for noise, and is right elsewhere
    inside, outside = np.s_[:, 96:224, 96:224], np.s_[:, :64]
    assert psnr(clean[inside], truth[inside]) < psnr(noisy[inside], truth[inside]) - 5
    assert psnr(result[inside], truth[inside]) > psnr(noisy[inside], truth[inside]) - 1.5
    assert psnr(result[outside], truth[outside]) > 45


def test_texture_as_weak_as_noise_is_restored(clean):
    coarse = F.avg_pool2d(noise_like(clean, 1.0)[None], 5, stride=1, padding=2)[0]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1)) * 5 / 255
    inside, texture = np.s_[:, 96:224, 96:224], torch.zeros_like(clean)
    texture[inside] = (split_luma(noise)[0].std() / split_luma(coarse)[0].std() * coarse)[inside]
    returned = split_luma(fused(clean + texture + noise, clean) - clean)[0]
    assert returned[inside].std() > 0.7 * split_luma(texture[inside])[0].std()
    assert returned[:, :80].std() < 0.2 * split_luma(noise)[0].std()


def test_noise_that_a_camera_left_at_edges_is_not_restored():
    flat = torch.full((3, 160, 320), 0.5)
    striped = flat.clone()
    striped[:, 40:120, 80:240] += 0.6 * ((torch.arange(160) % 8) < 4) - 0.3
    restored = []
    for picture in (flat, striped):
        noise = noise_like(picture, 5 / 255)
        inside = np.s_[:, 48:112, 96:224]
        noise[inside] *= 2.5
        returned = fused(picture + noise, picture) - picture
        restored.append(
            float((returned[inside].square().mean() / noise[inside].square().mean()).sqrt())
        )
    assert restored[1] < 0.5 * restored[0]


def test_black_clips_the_noise_of_shadows_and_not_that_of_dark_tones(clean):
    """Within a tenth of the range noise changes several times over."""
    dark = torch.full_like(clean, 0.5 / 255)
    dark[:, :, 160:] = 24 / 255
    noise = noise_like(dark, 5 / 255)
    noisy = (dark + noise).clamp_min(0)
    restored = (fused(noisy, dark) - dark)[:, :, 176:]
    assert restored.square().mean() < 0.02 * noise.square().mean()


@pytest.mark.parametrize("zoom", [2, 4])
def test_noise_that_a_zoom_made_coarse_is_not_restored(clean, zoom):
    """By chance it is anisotropic in places."""
    height, width = clean.shape[1:]
    few = noise_like(clean, 6 / 255)[None, :, : height // zoom, : width // zoom]
    noise = F.interpolate(few, (height, width), mode="bicubic")[0]
    restored = fused(clean + noise, clean) - clean
    assert restored.square().mean() < 0.08 * noise.square().mean()


@pytest.mark.parametrize("detail", [0.0, 1.0])
def test_print_without_visible_noise_stays_as_it_is(detail):
    page = torch.ones(3, 128, 128)
    page[:, 40:44, 20:100] = 0  # black and white print
    smeared = F.avg_pool2d(page[None], 3, stride=1, padding=1)[0]
    assert torch.equal(fused(page, smeared, detail), page)


@pytest.mark.parametrize("detail", [0.0, 1.0])
def test_graphics_with_flat_colours_stay_as_they_are(detail):
    rng = np.random.default_rng(0)
    picture = np.kron(rng.uniform(0.2, 0.8, (8, 8, 3)), np.ones((40, 40, 1)))
    picture = torch.from_numpy(picture).permute(2, 0, 1).float()
    smeared = F.avg_pool2d(picture[None], 5, stride=1, padding=2, count_include_pad=False)[0]
    assert psnr(smeared, picture) < 40
    assert psnr(fused(picture, smeared, detail), picture) > 60


def test_luma_and_chroma_are_weighted_separately(clean):
    noisy = clean + noise_like(clean, 5 / 255)
    luma, chroma = split_luma(noisy - clean)
    stripes = torch.zeros_like(luma)
    stripes[:, 100:200] = 0.1 * torch.sign(torch.sin(torch.arange(320) * 2.0))
    noisy = noisy + stripes
    result = fused(noisy, clean)
    kept_luma, kept_chroma = split_luma(result - clean)
    place = np.s_[:, 110:190]
    assert kept_luma[place].square().mean() > 0.7 * stripes[place].square().mean()
    assert kept_chroma[place].square().mean() < 0.05 * chroma[place].square().mean()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5), (8, 8), (17, 33)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size(size, channels):
    generator = torch.Generator().manual_seed(1)
    noisy, denoised = (torch.rand((channels, *size), generator=generator) for _ in range(2))
    result = fused(noisy, denoised)
    assert result.shape == noisy.shape
    assert result.isfinite().all()
    low, high = torch.minimum(noisy, denoised).amin(), torch.maximum(noisy, denoised).amax()
    assert result.min() >= 2 * low - high


@pytest.mark.parametrize("rows", [BLOCK_SIZE, 3 * BLOCK_SIZE, 200])
def test_some_rows_at_a_time_give_the_same(clean, rows):
    noisy = clean[:, :150] + noise_like(clean[:, :150], 0.05)
    denoised = F.avg_pool2d(noisy[None], 3, stride=1, padding=1)[0]
    whole = fused(noisy, denoised)
    starts = range(0, 150, rows)

    def part(x: torch.Tensor, top: int) -> torch.Tensor:
        return x[:, top : top + rows]

    stack = BlockStack(150)
    for y in starts:
        stack.add(block_stats(part(noisy, y), part(denoised, y)))
    stays = blend_weights(stack.whole(), None, None, 1.0)
    for y in starts:
        shares = upsample_blocks(stays, y, *part(noisy, y).shape[1:])
        mine = blend_residual(part(noisy, y), part(denoised, y), shares[:1], shares[1:])
        assert torch.allclose(mine, part(whole, y), atol=1e-6)
