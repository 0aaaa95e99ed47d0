from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import skimage.io
import torch

from amsnet_cli.core.photo_noise import PhotoNoise, spectrum_of

pytest.importorskip("cv2", reason="comes with the extra [training]")

from training.camera import MARGIN, simulate, with_white_noise
from training.patterns import with_pattern
from training.statistics import of_simulation

MEASURED = {
    "SIDD, 10 crops": (26.55, 0.35, -0.06, -0.03, 0.58, 0.33, 0.54, 1.15, 3.56),
    "RENOIR, 30 crops": (7.88, 0.38, 0.03, 0.02, 0.38, -0.01, 0.16, 1.32, 3.61),
    "PolyU, 100 crops": (2.68, 0.63, 0.23, 0.08, 0.76, 0.70, 0.63, 2.34, 4.41),
}
"""Medians over pictures, by `python -m training.statistics` on every second picture."""
QUANTITIES = (
    "sigma", "luma, lag 1", "luma, lag 2", "luma, lag 3", "luma's share", "red with green",
    "red with blue", "fine noise, edges over flats", "kurtosis",
)  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        skimage.io.imsave(folder / f"{name}.png", getattr(skimage.data, name)())
    return folder


@pytest.fixture(scope="module")
def simulated(photos) -> list[dict[str, float]]:
    return list(of_simulation(photos, patches=160, patch=128))


def between(found: list[dict[str, float]], quantity: str) -> tuple[float, float]:
    values = np.array([f[quantity] for f in found])
    low, high = np.quantile(values[np.isfinite(values)], (0.02, 0.98))
    return float(low), float(high)


@pytest.mark.slow
def test_the_noise_of_real_cameras_lies_within_what_is_simulated(simulated):
    for i, quantity in enumerate(QUANTITIES):
        low, high = between(simulated, quantity)
        for name, medians in MEASURED.items():
            assert low < medians[i] < high, f"{quantity} of {name}: {low:.2f} to {high:.2f}"


def test_so_does_noise_without_colour_and_the_coarse_noise_of_a_zoomed_photo(simulated):
    assert between(simulated, "luma's share")[1] > 0.99
    assert between(simulated, "luma, lag 3")[1] > 0.55


def clean_patches(count: int) -> torch.Tensor:
    side = 64 + 2 * MARGIN
    picture = torch.from_numpy(skimage.data.astronaut()[:side, 100 : 100 + side].copy())
    return (picture.permute(2, 0, 1).float() / 255).expand(count, -1, -1, -1)


def test_the_same_seed_gives_the_same_pairs_and_another_gives_others():
    def pairs(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        return simulate(clean_patches(4), torch.Generator().manual_seed(seed))

    for a, b in zip(pairs(3), pairs(3), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(pairs(3)[0], pairs(4)[0])


def test_pairs_are_pictures_of_8_bit_and_some_have_no_noise():
    noisy, target = simulate(clean_patches(60), torch.Generator().manual_seed(0))
    assert noisy.shape == target.shape == (60, 3, 64, 64)
    assert torch.allclose(noisy * 255, (noisy * 255).round(), atol=1e-3)
    assert min(target.min(), noisy.min()) >= 0 and max(target.max(), noisy.max()) <= 1
    errors = (noisy - target).square().mean((1, 2, 3)).sqrt() * 255
    assert errors.min() < 2 and errors.max() > 20


def test_some_cameras_keep_the_noise_of_edges_and_some_do_not():
    """Noise where the picture is in stripes over noise where it is even, in power."""
    side = 64 + 2 * MARGIN
    picture = torch.full((3, side, side), 0.5)
    picture[:, side // 2 :, (torch.arange(side) % 8) < 4] = 0.7
    noisy, target = simulate(picture.expand(96, -1, -1, -1), torch.Generator().manual_seed(0))
    even, striped = (noisy - target).square().mean(1).split(32, 1)
    ratio = (striped[:, 4:].mean((1, 2)) / even[:, :-4].mean((1, 2)).clamp_min(1e-7)).log2()
    assert (ratio > 1).float().mean() > 0.2
    assert (ratio.abs() < 0.5).float().mean() > 0.2


def test_white_noise_is_white_and_lies_on_the_patch_itself():
    noisy, target = with_white_noise(clean_patches(60), torch.Generator().manual_seed(0))
    assert torch.allclose(noisy * 255, (noisy * 255).round(), atol=1e-3)
    errors = (noisy - target).square().mean((1, 2, 3)).sqrt() * 255
    assert errors.min() < 2 and errors.max() > 20
    luma, expected = (x[:, :2] for x in (spectrum_of(noisy - target), PhotoNoise.white(1).spectrum))
    near = ((luma - expected).abs() < 0.15).all(1)
    assert near[errors > 4].float().mean() > 0.7, "some are sharpened"
    black, _ = with_white_noise(torch.zeros(9, 3, 64, 64), torch.Generator().manual_seed(0))
    assert black.isfinite().all()


def test_patterns_change_part_of_a_photo():
    photo = skimage.data.coffee()[:128, :128]
    changed = [
        (with_pattern(photo, np.random.default_rng(i)) != photo).any(2).mean() for i in range(30)
    ]
    assert 0.1 < np.mean(changed) < 0.9
