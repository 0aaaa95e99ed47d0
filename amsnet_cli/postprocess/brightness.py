"""Correct the brightness bias that a tone curve causes under strong noise.

Noise that is symmetric in linear light becomes skewed when the image is coded. A tone curve is
concave, so the mean of the coded values is darker than the scene. A network that predicts means is
therefore too dark, by several of 255 levels on phones.

The bias is measured without a clean image, in two ways. A tone curve maps the median to the median,
so the median of the residual shows the bias. So does the mean in linear light, coded again. If both
agree over the intensities that are not clipped, there is a tone curve, and they are used for every
intensity. In shadows that clip at black the mean is too bright and the median too dark. The bias is
taken midway between them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from amsnet_cli.noise.curve import interpolate
from amsnet_cli.photos.srgb import decode_srgb, encode_srgb
from amsnet_cli.postprocess.config import BrightnessConfig, PostprocessConfig, half_ramp


class ResidualHistogram:
    """Histograms of the residual, by channel and intensity.

    Pixels are counted where they are, and the counts kept on the CPU.

    Args:
        channels: C, 1 or 3.
        config: only its `brightness` is used.
    """

    def __init__(self, channels: int, config: PostprocessConfig = PostprocessConfig()) -> None:
        self._config = config.brightness
        intensities, bins = self._config.intensity_bins, self._config.residual_bins
        self._counts = torch.zeros(channels, intensities, bins, dtype=torch.int64)
        self._light = torch.zeros(2, channels, intensities, dtype=torch.float64)
        self._clipped = torch.zeros(channels, intensities, dtype=torch.float64)

    def add(self, noisy: Tensor, denoised: Tensor) -> None:
        """Count some of the image's pixels.

        Args:
            noisy: (C, h, w) float32 in [0, 1].
            denoised: the same shape.
        """
        channels, intensities, bins = self._counts.shape
        if noisy.device.type == "mps":  # it has no float64
            noisy, denoised = noisy.cpu(), denoised.cpu()
        residual = (noisy - denoised).clamp_(-1, 1)
        bin_ = residual.mul_(bins // 2).round_().int() + bins // 2
        index = (denoised * intensities).int().clamp_(0, intensities - 1)
        first = intensities * torch.arange(channels, dtype=index.dtype, device=index.device)
        index += first[:, None, None]
        counts = torch.bincount((bin_ + bins * index).flatten(), minlength=self._counts.numel())
        index = index.flatten()
        self._counts += counts.cpu().reshape(self._counts.shape)
        light = [
            torch.bincount(index, _linear(coded).flatten().double(), channels * intensities)
            for coded in (noisy, denoised)
        ]
        self._light += torch.stack(light).cpu().reshape(self._light.shape)
        clipped = ((noisy <= 0) | (noisy >= 1)).flatten()
        count = torch.bincount(index[clipped], minlength=channels * intensities)
        self._clipped += count.cpu().reshape(channels, intensities)

    def bias(self, *, only_tone_curve: bool = False) -> Tensor:
        """Estimate how much too dark the denoised image is, by intensity.

        Args:
            only_tone_curve: whether the bias is 0 unless there is a tone curve. A network that was
                trained on just this noise knows its mean, also where it is clipped.

        Returns:
            (C, intensity_bins) float32 in [0, 1] units, to be added; on the CPU. With a tone curve
            it lies between the median of the residual and the light that was lost (`light_share`).
            Without one it is the mean residual of the channel's pixels with symmetric noise, so
            that the mean brightness is kept. Where the median is plainly above the mean, it is the
            median, but not less than 0.
        """
        config = self._config
        # Residual noise spreads the pixels of one tone over two bins. Each bin alone would show
        # that noise as a bias, so it is measured together with its neighbours.
        counts = self._with_neighbours(self._counts.double())
        total = counts.sum(2)  # (C, I)
        mean, median, sigma = _moments(counts, total)
        noisy_light, denoised_light = (
            encode_srgb(self._with_neighbours(light) / total.clamp_min(1), torch.where)
            for light in self._light
        )
        lost_light = noisy_light - denoised_light

        gap = median - mean - config.standard_errors * sigma / total.clamp_min(1).sqrt()
        skewed = (gap / (config.skewed * sigma).clamp_min(1e-9)).clamp(0, 1)
        symmetric = total * (1 - skewed)
        drift = (symmetric * mean).sum(1, keepdim=True)
        drift = drift / symmetric.sum(1, keepdim=True).clamp_min(1)
        without_curve = torch.lerp(drift.expand_as(median), median.clamp_min(0), skewed)
        without_curve = torch.zeros_like(without_curve) if only_tone_curve else without_curve

        known = self._counts.sum(2) >= config.min_pixels
        tone_curve = self._tone_curve(total, mean, median, lost_light, known)
        with_curve = (1 - config.light_share) * median + config.light_share * lost_light
        bias = torch.lerp(without_curve, with_curve, tone_curve)
        return torch.stack([_fill_unknown(*line) for line in zip(bias, known, strict=True)])

    def _tone_curve(
        self, total: Tensor, mean: Tensor, median: Tensor, lost_light: Tensor, known: Tensor
    ) -> float:
        """Confidence, in [0, 1], that the sRGB curve or a similar one has skewed the noise."""
        config = self._config
        clipped = self._with_neighbours(self._clipped) / total.clamp_min(1)
        unclipped = (1 - clipped / config.max_clipped).clamp_min(0) * known
        weight = total * unclipped.square()
        expected = float((weight * (lost_light - mean)).sum())
        skew = float((weight * (median - mean)).sum()) / expected if expected > 0 else 0.0
        enough = min(1.0, config.clipped_weight * float(unclipped.max()))
        return half_ramp(skew, config.tone_curve) * enough

    def _with_neighbours(self, values: Tensor) -> Tensor:
        """Add a share of both neighbouring intensities to each of (C, I) or (C, I, N)."""
        weight = self._config.neighbour_weight
        sums = values.clone()
        sums[:, 1:] += weight * values[:, :-1]
        sums[:, :-1] += weight * values[:, 1:]
        return sums


def correct_brightness(denoised: Tensor, bias: Tensor) -> Tensor:
    """Add the bias of each intensity, interpolated linearly between the bins' centres.

    Args:
        denoised: (C, h, w) float32.
        bias: (C, intensity_bins), from `ResidualHistogram.bias`.

    Returns:
        (C, h, w).
    """
    position = denoised * bias.shape[1] - 0.5
    pairs = zip(bias, position, strict=True)
    return denoised + torch.stack([interpolate(curve, place) for curve, place in pairs])


def sampling(
    height: int, width: int, config: BrightnessConfig = BrightnessConfig()
) -> tuple[int, int]:
    """Row and column steps between the pixels that `ResidualHistogram` samples.

    The steps are odd. Even ones would only meet pixels of one colour of the sensor's mosaic, whose
    noise differs from that of interpolated pixels.
    """
    pixels = height * width
    columns = 1 + 2 * math.isqrt(pixels // config.sampled_pixels)
    rows = 3 * columns if pixels >= config.dense_pixels else 1
    return rows, columns


def _moments(counts: Tensor, total: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, median and standard deviation of histograms over [-1, 1], (C, I, N) to (C, I) each."""
    bins = counts.shape[2]
    values = torch.linspace(-1, 1, bins, dtype=torch.float64)
    mean = (counts * values).sum(2) / total.clamp_min(1)
    variance = (counts * values.square()).sum(2) / total.clamp_min(1) - mean.square()
    reached = counts.cumsum(2)
    middle = (reached < total[..., None] / 2).sum(2).clamp_max(bins - 1)  # the median's bin
    inside = counts.gather(2, middle[..., None])[..., 0].clamp_min(1)
    before = reached.gather(2, middle[..., None])[..., 0] - inside
    width = 2 / (bins - 1)
    median = values[middle] + width * ((total / 2 - before) / inside - 0.5)
    return mean, median, variance.clamp_min(0).sqrt()


def _linear(coded: Tensor) -> Tensor:
    light: Tensor = decode_srgb(coded.clamp(0, 1), torch.where)
    return light


def _fill_unknown(bias: Tensor, known: Tensor) -> Tensor:
    """Give intensities with too few pixels the bias of the nearest known one, (I,)."""
    places = torch.nonzero(known).flatten()
    if not len(places):
        return torch.zeros(len(bias))
    nearest = (torch.arange(len(bias))[:, None] - places).abs().argmin(1)
    return bias[places[nearest]].float()
