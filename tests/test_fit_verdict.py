"""Whether a fitted model is better, told without clean pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch

from amsnet_cli.fitting.distributed import DistributedContext
from amsnet_cli.fitting.images import load_images, read_developed
from amsnet_cli.fitting.moved_noise import MovedNoise
from amsnet_cli.fitting.noise_adaptation import NoiseAdaptation
from amsnet_cli.fitting.noise_profile import ProfileConfig, profile_crops
from amsnet_cli.fitting.patches import PatchSpec
from amsnet_cli.fitting.validation import relative_improvement
from amsnet_cli.model import load_model
from amsnet_cli.noise.model import MAX_LAG, NoiseModel
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo
from amsnet_cli.weights.store import find_weights
from tests.test_noise_model import binomial, white

WHITE = NoiseModel(
    levels=torch.full((9,), 0.04), covariance=torch.zeros(2 * MAX_LAG + 1, 2 * MAX_LAG + 1, 3, 3),
    edge_preservation=0.0,
)  # fmt: skip


def shot(seed: int, size: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """A picture that is rough at the left and smooth on the right, noisy and clean."""
    rng = np.random.default_rng(seed)
    clean = np.full((size, size, 3), 0.5, np.float32)
    clean[:, : size // 4] += 0.2 * rng.standard_normal((size, size // 4, 1))
    return (clean + 0.04 * rng.standard_normal(clean.shape)).astype(np.float32), clean


def spec(top: int, left: int) -> PatchSpec:
    return PatchSpec(crop=0, top=top, left=left, size=32, rot90=0, flip=False)


class TestMovedNoise:
    def test_is_that_of_a_quiet_place_far_away(self):
        noisy, clean = shot(0)
        # The first version has lost half of the texture.
        denoised = 0.5 + 0.5 * (clean - 0.5)
        moved = MovedNoise(noisy, denoised, WHITE, 32)
        for place in range(0, 129, 8):
            in_place, quiet = moved.take(spec(place, place // 3), torch.Generator().manual_seed(0))
            assert float(quiet.std()) == pytest.approx(0.04, rel=0.1)
            own = torch.from_numpy(noisy - clean)[place : place + 32, place // 3 :][:, :32]
            for e in (in_place, quiet):
                correlation = float((e * own.permute(2, 0, 1)).mean()) / 0.04**2
                assert abs(correlation) < 0.15

    def test_keeps_the_phase_of_blocks(self):
        y, x = np.mgrid[:160, :160]
        blocks = np.repeat(np.hypot(y % 16, x % 16)[..., None], 3, 2).astype(np.float32) / 300
        moved = MovedNoise(0.5 + blocks, np.full_like(blocks, 0.5), WHITE, 32)
        for e in moved.take(spec(19, 6), torch.Generator().manual_seed(0)):
            own = torch.from_numpy(blocks[19:51, 6:38]).permute(2, 0, 1)
            assert torch.allclose(e, own, atol=1e-6)

    def test_of_a_photo_smaller_than_a_square(self):
        noisy, clean = shot(0, 20)
        [in_place] = MovedNoise(noisy, clean, WHITE, 32).take(spec(0, 0), torch.Generator())
        assert in_place.shape == (3, 32, 32)


def test_photos_that_disagree_are_no_evidence():
    """Half of a folder gains, the other half loses: so would the next folder, or not."""
    generator = torch.Generator().manual_seed(0)
    before = torch.full((400,), 1.5) + 0.01 * torch.randn(400, generator=generator)
    photos = torch.arange(400) // 100
    gains = torch.tensor([0.10, 0.03, -0.04, -0.01])[photos]
    improvement, error = relative_improvement(before, before - gains)
    assert improvement > 2 * error
    same, error_of_photos = relative_improvement(before, before - gains, photos)
    assert same == improvement < 2 * error_of_photos
    agreed = relative_improvement(before, before - gains.abs(), photos)
    assert agreed[0] > agreed[1] > relative_improvement(before, before - gains.abs())[1]
    one_photo = relative_improvement(before, before - gains, torch.zeros_like(photos))
    assert one_photo == (improvement, error)


def test_noise_that_black_clips_is_not_taken_for_more_than_it_is(tmp_path: Path):
    """A loss below the square root of 2 would be less than a perfect network has."""
    rng = np.random.default_rng(0)
    light = np.linspace(-0.06, 0.12, 192, dtype=np.float32)[:, None, None]
    noisy = light.clip(0) + 0.06 * rng.standard_normal((192, 192, 3))
    write_photo(Photo(pixels=(noisy.clip(0, 1) * 255).round().astype(np.uint8)), tmp_path / "a.png")
    images = load_images(tmp_path, read_developed, max_pixels=10**6, seed=0)
    start, cpu = load_model(find_weights(None)), torch.device("cpu")
    objective = NoiseAdaptation(
        images, profile_crops(images, start, device=cpu), patch_size=64, batch=2, seed=0,
        distributed=DistributedContext(), device=cpu, validation_patches=9,
    )  # fmt: skip
    with torch.inference_mode():
        assert float(objective.own_noise_losses(start.network.eval())[0].mean()) > 2**0.5 - 0.02


def test_texture_is_not_measured_as_noise_that_the_network_was_told_too_weak(tmp_path: Path):
    """Told twice the noise, a network removes texture, and what looks flat then is none."""
    picture = torch.from_numpy(skimage.data.coins()[100:260, 160:320]).expand(3, -1, -1)
    noisy = (picture + 14 * binomial(white(picture))).round().clamp(0, 255)
    write_photo(Photo(pixels=noisy.byte().permute(1, 2, 0).numpy()), tmp_path / "a.png")
    images = load_images(tmp_path, read_developed, max_pixels=10**6, seed=0)
    start, cpu = load_model(find_weights(None)), torch.device("cpu")
    [as_texture], [as_noise] = (
        profile_crops(images, start, device=cpu, config=config)
        for config in (ProfileConfig(), ProfileConfig(told_too_weak=0))
    )
    assert as_texture.noise is None and as_noise.noise is not None
    assert 255 * as_noise.noise.sigma() > 1.05 * 14
