from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F

from amsnet_cli.postprocess.block_stats import block_stats, split_luma
from amsnet_cli.postprocess.blocks import BLOCK_SIZE, BlockStack, upsample_blocks
from amsnet_cli.postprocess.confidence import noise_confidence
from amsnet_cli.postprocess.texture import blend_residual, blend_weights


def tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255


def fused(noisy: torch.Tensor, denoised: torch.Tensor) -> torch.Tensor:
    removed = block_stats(noisy, denoised)
    stays = blend_weights(removed, None, None, 0.0, noise_confidence(removed, None))
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
    assert psnr(fused(noisy, clean), clean) > 50


def test_of_faint_differences_only_those_that_neighbours_share_are_surely_noise(clean):
    white = noise_like(clean, 1.5 / 255)
    shared = 3 * F.avg_pool2d(white[None], 3, stride=1, padding=1)[0]
    left = [
        (fused(clean + x, clean) - clean).square().mean() / x.square().mean()
        for x in (white, shared)
    ]
    assert 0.5 < left[0] < 0.6
    assert left[1] < 0.02


def test_what_neighbours_share_says_less_in_a_jpeg_unless_its_steps_are_coarse(clean):
    white = noise_like(clean, 0.8 / 255)
    some = white + 1.5 * F.avg_pool2d(white[None], 3, stride=1, padding=1)[0]

    def believed(step: float | None) -> float:
        return noise_confidence(block_stats(clean + some, clean), step)

    camera, fine, coarse = believed(None), believed(5 / 255), believed(25 / 255)
    assert fine < 0.6 and min(camera, coarse) > 0.9


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


def test_texture_as_weak_as_noise_is_restored_if_it_is_coarser(clean):
    fine = noise_like(clean, 1.0)
    coarse = F.avg_pool2d(fine[None], 5, stride=1, padding=2, count_include_pad=False)[0]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1)) * 5 / 255
    inside = np.s_[:, 96:224, 96:224]
    restored = []
    for kind in (fine, coarse):
        texture = torch.zeros_like(clean)
        texture[inside] = (
            5 / 255 * 1.1 * (kind / split_luma(kind)[0].std() * split_luma(fine)[0].std())[inside]
        )
        result = fused(clean + texture + noise, clean)
        restored.append(float(split_luma(result - clean)[0][inside].square().mean()) * 255**2)
    assert restored[0] < 0.3
    assert restored[1] > 4.5


def test_in_textured_images_more_is_restored_if_the_noise_is_faint():
    """A quarter of the picture has texture that is coarse and no stronger than noise may be."""
    grey = torch.full((3, 320, 320), 0.5)
    fine = torch.randn((1, 320, 320), generator=torch.Generator().manual_seed(1))
    coarse = F.avg_pool2d(fine, 3, stride=1, padding=1)
    coarse[..., :160] = coarse[..., 240:] = 0
    restored = []
    for sigma in (4 / 255, 14 / 255):
        noise = noise_like(grey, sigma)
        texture = 0.35 * coarse / coarse.std() * split_luma(noise)[0].std()
        returned = fused(grey + noise + texture, grey) - grey
        restored.append(split_luma(returned)[0][..., 168:232].std() / sigma)
    assert restored[0] > 2 * restored[1]


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


def test_fur_as_weak_as_noise_is_restored_by_its_anisotropy(clean):
    """Noise that is anisotropic everywhere is not."""
    fine = noise_like(clean, 6 / 255)

    def stretched(x: torch.Tensor, reach: int) -> torch.Tensor:
        longer = F.avg_pool2d(x, (1, 2 * reach + 1), stride=1, padding=(0, reach))
        return longer * (x.std() / longer.std())

    slanted = torch.stack(
        [torch.roll(stretched(fine, 3)[:, i], i, 1) for i in range(clean.shape[1])], 1
    )
    fur = torch.where(torch.arange(320) % 120 < 60, slanted, slanted.flip(2))
    fur[:, :40], fur[:, 120:] = fine[:, :40], fine[:, 120:]
    restored = [
        (fused(clean + x, clean) - clean)[:, 64:96, 40:280].square().mean() / x.square().mean()
        for x in (fur, fine, stretched(fine, 1))
    ]
    assert restored[0] > 0.15
    assert max(restored[1:]) < 0.02


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
    assert restored.square().mean() < 0.05 * noise.square().mean()


def test_even_noise_is_removed_though_it_is_uncorrelated(clean):
    uneven = torch.zeros_like(clean)
    uneven[:, :, :160] = noise_like(clean, 4 / 255)[:, :, :160]
    even = noise_like(clean, 4 / 255)
    left = [(fused(clean + x, clean) - clean)[:, :, :120].square().mean() for x in (uneven, even)]
    assert left[1] < 0.1 * (4 / 255) ** 2 < left[0]


def test_print_without_visible_noise_stays_as_it_is():
    page = torch.ones(3, 128, 128)
    page[:, 40:44, 20:100] = 0  # black and white print
    smeared = F.avg_pool2d(page[None], 3, stride=1, padding=1)[0]
    assert torch.equal(fused(page, smeared), page)


def test_graphics_with_flat_colours_stay_as_they_are():
    rng = np.random.default_rng(0)
    picture = np.kron(rng.uniform(0.2, 0.8, (8, 8, 3)), np.ones((40, 40, 1)))
    picture = torch.from_numpy(picture).permute(2, 0, 1).float()
    smeared = F.avg_pool2d(picture[None], 5, stride=1, padding=2, count_include_pad=False)[0]
    assert psnr(smeared, picture) < 40
    assert psnr(fused(picture, smeared), picture) > 60


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

    def part(x: torch.Tensor, top: int, beyond: int = 0) -> torch.Tensor:
        return x[:, max(0, top - beyond) : top + rows + beyond]

    stack = BlockStack(150)
    for y in starts:
        above, below = int(y > 0), int(y + rows < 150)
        stack.add(block_stats(part(noisy, y, 1), part(denoised, y, 1), above=above, below=below))
    removed = stack.whole()
    stays = blend_weights(removed, None, None, 0.0, noise_confidence(removed, None))
    for y in starts:
        shares = upsample_blocks(stays, y, *part(noisy, y).shape[1:])
        mine = blend_residual(part(noisy, y), part(denoised, y), shares[:1], shares[1:])
        assert torch.allclose(mine, part(whole, y), atol=1e-6)
