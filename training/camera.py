"""Simulate cameras: turn clean photos into pairs of a noisy photo and its target.

Each patch is blurred by a lens, converted back to sensor values, gets shot and read noise, and is
developed again (`demosaicking.py`, `processing.py`, `jpeg.py`). Some patches get white noise or
film grain instead. The target is the noise-free patch, developed in the same way but without noise
reduction and JPEG blocks, with its brightness corrected to the noisy one's. All parameters are
drawn anew for each patch, from ranges wide enough for many cameras, phones and converters.

Sources for the ranges: shot and read noise after Brooks et al., "Unprocessing Images for
Learned Raw Denoising" (CVPR 2019), widened at both ends.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.demosaicking import demosaic, mosaic
from training.jpeg import quantise
from training.processing import (
    edge_preserving_reduction,
    gaussian_blur,
    reduce_noise,
    resample,
    sharpen,
)
from training.random_parameters import RandomParameters

MARGIN = 16
"""Pixels that filters spoil at each border; patches are drawn that much larger."""

_UNPROCESSED = 0.3
"""Fraction of photos without noise reduction, resampling, sharpening and JPEG. This is how RAW
files are developed here, and by the neutral settings of most converters."""
_LENS_SIGMA = (0.3, 1.6)
"""Range of the point spread in pixels: lens, low-pass filter and pixel width together."""
_SLOPE_STEP = 0.02
"""Step in linear light over which the slope of the tone curve is measured."""
_BINS = 16
"""Intensity bins in which target and noisy patch are compared."""
_MIN_PIXELS = 64
"""Pixels of a bin from which on its median is used."""


def simulate(clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Simulate random cameras on clean patches.

    Args:
        clean: (B, 3, H + 2 * MARGIN, W + 2 * MARGIN) float32 sRGB in [0, 1], even sides.
        generator: CPU generator; the same state gives the same pairs, on the same device.

    Returns:
        noisy and target, each (B, 3, H, W) float32 in [0, 1] on the device of `clean`; noisy is
        rounded to 8 bits, target is not.
    """
    draw = RandomParameters(generator, clean.shape[0], clean.device)
    clean = _through_lens(clean, draw)
    additive, processed = draw.chance(0.2), ~draw.chance(_UNPROCESSED)
    noisy, target = _photograph(clean, processed, draw)
    sigma = draw.log_uniform(0.5 / 255, 60 / 255)
    noise = torch.where(draw.chance(0.6), draw.normal_like(clean), _film_grain(clean, draw))
    noisy = torch.where(additive, clean + sigma * noise, noisy)
    target = torch.where(additive, clean, target)

    noisy, target = resample(noisy, target, processed & draw.chance(0.3), draw)
    amount = draw.uniform(0.2, 1.2) * (processed & draw.chance(0.35))
    noisy, target = sharpen(noisy, amount), sharpen(target, amount)
    grey = draw.chance(0.06)
    noisy, target = (torch.where(grey, x.mean(1, keepdim=True), x) for x in (noisy, target))
    noisy, target = (x[..., MARGIN:-MARGIN, MARGIN:-MARGIN].clamp(0, 1) for x in (noisy, target))
    target = _match_brightness(noisy, target)
    noisy = torch.where(draw.chance(0.05), target, noisy)  # clean photos must not change
    return quantise(noisy, target, (processed & draw.chance(0.9)).flatten(), draw)


def with_white_noise(clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Add white noise, uniform or stronger where the image is brighter.

    Downscaled photos, sensors without a mosaic and simulations have white noise.

    Args:
        clean: as for `simulate`.
        generator: as for `simulate`.

    Returns:
        As `simulate`; the target is the clean patch itself.
    """
    draw = RandomParameters(generator, clean.shape[0], clean.device)
    clean = torch.where(draw.chance(0.3), gaussian_blur(clean, draw.uniform(0.3, 1.0)), clean)
    grey = draw.chance(0.15)
    clean = torch.where(grey, clean.mean(1, keepdim=True), clean)
    crosstalk = draw.uniform(-0.4, 0.4, 3, 3) * draw.chance(0.3)[..., 0]  # (B, 3, 3)
    mixing = torch.eye(3, device=draw.device) + crosstalk
    noise = torch.einsum("bij,bjhw->bihw", mixing, draw.normal_like(clean))
    noise = torch.where(grey, noise[:, :1], noise)
    light = (clean / clean.mean((1, 2, 3), keepdim=True).clamp_min(1e-3)).sqrt()
    with_light = draw.uniform(0, 1) * draw.chance(0.5)
    sigma = draw.log_uniform(0.5 / 255, 60 / 255) * (1 + with_light * (light - 1))
    noisy = torch.where(draw.chance(0.03), clean, clean + sigma * noise)
    amount = draw.uniform(0.2, 1.0) * draw.chance(0.2)
    noisy, clean = (
        sharpen(x, amount)[..., MARGIN:-MARGIN, MARGIN:-MARGIN].clamp(0, 1) for x in (noisy, clean)
    )
    return (noisy * 255).round() / 255, clean


def _film_grain(clean: Tensor, draw: RandomParameters) -> Tensor:
    """Film grain of standard deviation about 1: soft, mostly strongest in mid-tones."""
    colour, grey = draw.normal_like(clean), draw.normal_like(clean[:, :1])
    saturation = draw.uniform(0, 1) * draw.chance(0.5)
    grain = gaussian_blur(
        (1 - saturation).sqrt() * grey + saturation.sqrt() * colour, draw.uniform(0.2, 1.5)
    )
    grain = grain / grain.std((1, 2, 3), keepdim=True)
    mid_tones = 0.4 + 1.2 * (clean * (1 - clean)).clamp_min(0).sqrt()
    return torch.where(draw.chance(0.7), grain * mid_tones, grain)


def _through_lens(clean: Tensor, draw: RandomParameters) -> Tensor:
    """Blur most patches: photos at full resolution are less sharp than downscaled clean ones."""
    return torch.where(draw.chance(0.7), gaussian_blur(clean, draw.uniform(*_LENS_SIGMA)), clean)


def _photograph(clean: Tensor, processed: Tensor, draw: RandomParameters) -> tuple[Tensor, Tensor]:
    """Expose, add sensor noise and develop; return the noisy and the noise-free result.

    In-camera noise reduction follows where `processed`, (B, 1, 1, 1) bool, is True.
    """
    gamma = draw.uniform(1.8, 2.6)
    exposure = 2 ** draw.uniform(-2.0, 0.4)
    to_srgb = _colour_matrix(draw)
    red, blue = draw.uniform(1.1, 2.6), draw.uniform(1.1, 2.6)
    gains = torch.cat([red, torch.ones_like(red), blue], 1)
    linear = (clean.clamp(0, 1) ** gamma * exposure).clamp(0, 1)
    camera = torch.einsum("bij,bjhw->bihw", torch.linalg.inv(to_srgb), linear)
    raw = (camera / gains).clamp(0, 1)

    shot = draw.log_uniform(3e-5, 8e-2)
    read = (2.18 * shot.log() + 1.2 + 0.6 * draw.normal_like(shot)).exp()
    noise = (shot * raw + read).sqrt() * draw.normal_like(raw)

    mosaicked, kind = draw.chance(0.88), draw.uniform(0, 1)
    developed = []
    for sensor in ((raw + noise).clamp_max(1.0), raw):
        rgb = torch.where(mosaicked, demosaic(mosaic(sensor), kind), sensor)
        developed.append(torch.einsum("bij,bjhw->bihw", to_srgb, rgb * gains))
    noisy, target = developed
    reduced = target + reduce_noise(noisy - target, draw)
    noisy = torch.where(processed, reduced, noisy)
    contrast = draw.uniform(0.0, 0.8)
    developed_target = _tone(target, gamma, contrast)
    # A tone curve skews the noise, and networks learn to expect that everywhere. RENOIR's noise is
    # not skewed. So for some cameras the curve is linear over the range of the noise.
    slope = (_tone(target + _SLOPE_STEP, gamma, contrast) - developed_target) / _SLOPE_STEP
    unskewed = developed_target + slope * (noisy - target)
    developed_noisy = torch.where(draw.chance(0.4), unskewed, _tone(noisy, gamma, contrast))
    chosen = processed & draw.chance(0.75)
    return edge_preserving_reduction(developed_noisy, developed_target, chosen, draw)


def _tone(linear: Tensor, gamma: Tensor, contrast: Tensor) -> Tensor:
    """Apply gamma and part of an S-curve."""
    encoded = linear.clamp(0, 1) ** (1 / gamma)
    return torch.lerp(encoded, encoded * encoded * (3 - 2 * encoded), contrast)


def _colour_matrix(draw: RandomParameters) -> Tensor:
    """Random matrices from camera to sRGB, (B, 3, 3); rows sum to 1, as white stays white."""
    off_diagonal = draw.uniform(-0.55, 0.05, 3, 3) * draw.uniform(0, 1, 1, 1)
    off_diagonal = off_diagonal * (1 - torch.eye(3, device=draw.device))
    return off_diagonal + torch.diag_embed(1 - off_diagonal.sum(2))


def _match_brightness(noisy: Tensor, target: Tensor) -> Tensor:
    """Shift each intensity of `target` to the centre of the noisy pixels there, per channel.

    Clipping at black raises the mean of the noise and lowers its median; a concave tone curve
    lowers the mean and keeps the median. By how much depends on the camera and cannot be seen in an
    image; networks that guess darken the shadows of real photos. So the target is observable: the
    larger of mean and median. On SIDD's phones the mean is 3.0/255 rms from the clean brightness,
    the median 1.1, but far too dark in the shadows, where the mean is right.

    Args:
        noisy: (B, 3, H, W) float32 in [0, 1].
        target: the same shape.
    """
    batch, channels = target.shape[:2]
    clean, residual = target.flatten(2), (noisy - target).flatten(2)  # (B, 3, H*W)
    position = clean * _BINS
    bin_index = position.long().clamp_max(_BINS - 1)
    counts = clean.new_zeros(batch, channels, _BINS)
    counts.scatter_add_(2, bin_index, torch.ones_like(clean))
    sums = torch.zeros_like(counts).scatter_add_(2, bin_index, residual)
    mean = sums / counts.clamp_min(1)
    # Sorted by bin and then by residual, the median is in the middle of each bin's run.
    order = (bin_index + 0.25 * residual.clamp(-1, 1) + 0.5).argsort(2)
    middle = (counts.cumsum(2) - 0.5 * counts).long().clamp_max(clean.shape[2] - 1)
    median = residual.gather(2, order.gather(2, middle))
    shift = torch.where(counts >= _MIN_PIXELS, torch.maximum(mean, median), mean)
    # Interpolated between the centres of bins; empty bins get no weight.
    lower = (position - 0.5).floor().clamp(0, _BINS - 2).long()
    fraction = (position - 0.5 - lower).clamp(0, 1)
    occupied = (counts > 0).float()
    low, high = shift.gather(2, lower), shift.gather(2, lower + 1)
    low_weight = (1 - fraction) * occupied.gather(2, lower)
    high_weight = fraction * occupied.gather(2, lower + 1)
    shift = (low * low_weight + high * high_weight) / (low_weight + high_weight).clamp_min(1e-6)
    return (target + shift.reshape(target.shape)).clamp(0, 1)
