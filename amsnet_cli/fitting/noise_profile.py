"""Profile a folder: cameras, ISO range and noise statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from amsnet_cli.core.photo_noise import PhotoNoise
from amsnet_cli.fitting.images import ImageCrop, ImageFolder, to_tensor
from amsnet_cli.fitting.noise_confidence import noise_confidence
from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.model import Model
from amsnet_cli.noise.model import LEVELS, NoiseModel, estimate_noise
from amsnet_cli.noise.spectrum import correct_spectrum
from amsnet_cli.photos.photo import Photo, Pixels
from amsnet_cli.photos.pixel_codec import with_depth
from amsnet_cli.postprocess.block_stats import block_stats, quiet_power
from amsnet_cli.postprocess.config import PostprocessConfig


@dataclass(frozen=True, kw_only=True)
class ProfileConfig:
    """Numbers of the noise profile.

    Attributes:
        min_sigma: standard deviation, in [0, 1] units, below which an image counts as clean; of
            all of it or of its quiet blocks.
        min_confidence: confidence (`postprocess.confidence`) below which the residual may be
            texture or grain, so that the image counts as clean.
        mixed_ratio: highest over lowest noise level above which a folder counts as mixed.
        told_again: what the noise is multiplied by that a network is told again, where nothing of
            the first version looks flat.
        told_too_weak: noise level, measured with that second version, over the level first told,
            from which it was told too weak. Otherwise what the second version lacks is texture.
        stride_quantile: fraction of the images whose noise `FolderProfile.stride` decorrelates.
    """

    min_sigma: float = 0.65 / 255
    min_confidence: float = 0.8
    mixed_ratio: float = 2.0
    told_again: float = 2.0
    told_too_weak: float = 1.4
    stride_quantile: float = 0.8


@dataclass(frozen=True, kw_only=True)
class CropProfile:
    """The noise of a crop.

    Attributes:
        crop: its index in `ImageFolder.crops`.
        denoised: (H, W, 3) uint16, by the model of the profile.
        noise: None where it cannot be estimated: the crop is clean, too small, or has no flat
            areas.
        clean: whether it contains almost no noise, or only what may be texture.
        told: the noise that the model was told, if it is.
    """

    crop: int
    denoised: Pixels
    noise: NoiseModel | None
    clean: bool
    told: PhotoNoise | None = None


@dataclass(frozen=True, kw_only=True)
class FolderProfile:
    """The cameras and the noise of a folder.

    Attributes:
        photos: how many were read.
        found: how many could have been read.
        cameras: by name, each with its lowest and highest ISO; empty where no photo says.
        unnamed: photos without a camera name.
        levels: noise standard deviation of each crop, in [0, 1] units, ascending; empty where
            none could be measured.
        by_brightness: the same in dark, middle and bright tones, median over crops.
        autocorrelation: lag-1 autocorrelation of luma noise, median.
        channel_correlation: correlation of the noise of two channels, median.
        stride: pixel-shuffle stride that decorrelates the noise of four crops in five.
        clean: whether most crops contain almost no noise.
        mixed: whether the photos differ in camera, or much in noise level.
        still: pages of stacks that are views of still scenes, and learn from the others.
        moving: pages of stacks in which something moves, or light changes; they are photos.
    """

    photos: int
    found: int
    cameras: dict[str, list[int]]
    unnamed: int
    levels: list[float]
    by_brightness: tuple[float, float, float]
    autocorrelation: float
    channel_correlation: float
    stride: int
    clean: bool
    mixed: bool
    still: int = 0
    moving: int = 0

    def lines(self) -> list[str]:
        """Describe the folder for people, one fact a line."""
        lines = [describe_photos(self.photos, self.found, self.cameras, self.unnamed)]
        if self.clean:
            return [*lines, "almost no measurable noise"]
        if not self.levels:
            return [*lines, "too small or too textured to measure the noise"]
        low, middle, high = (255 * self.levels[i] for i in (0, len(self.levels) // 2, -1))
        dark, mid, bright = (255 * level for level in self.by_brightness)
        lines += [
            f"noise {middle:.1f} of 255 ({low:.1f} to {high:.1f}); in dark, middle and bright "
            f"tones {dark:.1f}, {mid:.1f}, {bright:.1f}",
            f"correlation between neighbouring pixels {self.autocorrelation:.2f}, between channels "
            f"{self.channel_correlation:.2f}; uncorrelated at a distance of {self.stride} "
            f"pixel{'s' * (self.stride > 1)}",
        ]
        if self.mixed:
            lines.append("the photos differ: each is trained on with its own noise")
        if self.still:
            lines.append(f"nothing moves in {self.still} pages: views of one scene")
        if self.moving:
            lines.append(f"something moves in {self.moving} pages: taken as photos")
        return lines


def describe_photos(photos: int, found: int, cameras: dict[str, list[int]], unnamed: int) -> str:
    """Return a line for people; the arguments are fields of `FolderProfile`."""
    named = [name + (f", ISO {_range(isos)}" if isos else "") for name, isos in cameras.items()]
    if unnamed:
        named.append(f"{unnamed} without a camera name")
    of = f" of {found}, drawn at random" if found > photos else ""
    return f"{photos} photo{'s' * (photos > 1)}{of}: {'; '.join(named)}"


def profile_crops(
    images: ImageFolder[ImageCrop],
    model: Model,
    *,
    max_crops: int | None = None,
    config: ProfileConfig = ProfileConfig(),
    device: torch.device,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[CropProfile]:
    """Denoise crops and estimate the noise of each.

    Args:
        images: whose crops.
        model: denoises them.
        max_crops: how many, evenly spread over the folder; None for all.
        config: thresholds.
        device: where to compute.
        on_progress: called with how many are done, and of how many.
    """
    n_crops = len(images.crops)
    count = n_crops if max_crops is None else min(max_crops, n_crops)
    profiles = []
    for done, index in enumerate((i * n_crops // count for i in range(count)), 1):
        profiles.append(_profile_crop(images, index, model, config, device))
        on_progress(done, count)
    return profiles


def _profile_crop(
    images: ImageFolder[ImageCrop],
    index: int,
    model: Model,
    config: ProfileConfig,
    device: torch.device,
) -> CropProfile:
    crop = images.crops[index]
    # In 16 bits, as rounding the denoised version to 8 would add noise.
    photo = Photo(pixels=crop.pixels, quantisation_step=crop.quantisation_step)
    noisy = with_depth(photo, 16)
    # The raw output: post-processing restores noise that may be texture, which would be trained on.
    raw_output = DenoiseOptions(strength=1.0, postprocess=PostprocessConfig.none())
    denoised = denoise(noisy, model, raw_output, device=device)
    before, after = to_tensor(noisy.pixels), to_tensor(denoised.photo.pixels)  # (3, H, W)
    noise = _measure(before, after, denoised.noise)
    if noise is None and denoised.noise is not None:
        # Noise of a kind that is told too weak stays, and nothing looks flat.
        stronger = denoise(
            noisy, model, replace(raw_output, strength=config.told_again), device=device
        )
        second = to_tensor(stronger.photo.pixels)
        noise = _measure(before, second, denoised.noise)
        least = config.told_too_weak * denoised.noise.at(0.5) / 255
        if noise is not None and noise.sigma() > least:
            after, denoised = second, replace(stronger, noise=denoised.noise)
        else:
            noise = None
    residual = block_stats(before, after)
    clean = noise_confidence(residual, before, photo) < config.min_confidence or (
        noise is not None and min(noise.sigma(), quiet_power(residual)[0] ** 0.5) < config.min_sigma
    )
    return CropProfile(
        crop=index, denoised=denoised.photo.pixels, noise=None if clean else noise, clean=clean,
        told=denoised.noise,
    )  # fmt: skip


def _measure(noisy: Tensor, denoised: Tensor, told: PhotoNoise | None) -> NoiseModel | None:
    """Measure the noise of a crop; where nothing is flat, the level is told."""
    brightness = torch.linspace(0, 1, LEVELS).tolist()
    expected = None if told is None else torch.tensor([told.at(level) for level in brightness])
    model = estimate_noise(noisy, denoised, expected)
    return None if model is None else correct_spectrum(model, noisy, denoised)


def profile_folder(
    images: ImageFolder[ImageCrop],
    profiles: Sequence[CropProfile],
    config: ProfileConfig = ProfileConfig(),
) -> FolderProfile:
    """Summarise the profiles of a folder's crops."""
    cameras = images.camera_ranges()
    unnamed = sum(name is None for name, _ in images.cameras)
    noise = [profile.noise for profile in profiles if profile.noise is not None]
    levels = sorted(model.sigma() for model in noise)
    strides = sorted(model.decorrelating_stride() for model in noise)
    dark, mid, bright = (
        float(np.median([model.levels[i] for model in noise])) if noise else 0.0 for i in (1, 4, 7)
    )
    spread = bool(levels) and levels[-1] > config.mixed_ratio * levels[0]
    return FolderProfile(
        photos=len(images.paths),
        found=images.found - len(images.skipped),
        cameras=cameras,
        unnamed=unnamed,
        levels=levels,
        by_brightness=(dark, mid, bright),
        autocorrelation=_median(model.correlation(1) for model in noise),
        channel_correlation=_median(model.channel_correlation() for model in noise),
        stride=strides[int(config.stride_quantile * (len(strides) - 1))] if strides else 1,
        clean=2 * sum(profile.clean for profile in profiles) > len(profiles),
        mixed=spread or len(cameras) + bool(unnamed) > 1,
        still=sum(crop.views is not None for crop in images.crops),
        moving=sum(crop.moves for crop in images.crops),
    )


def _range(isos: list[int]) -> str:
    low, high = isos
    return f"{low}" if low == high else f"{low} to {high}"


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else 0.0
