"""Correct the brightness bias that a tone curve causes under strong noise.

Noise that is symmetric in linear light becomes skewed when the image is coded. A tone curve is
concave, so the mean of the coded values is darker than the scene. A network that predicts means is
therefore too dark, by several of 255 levels on phones.

The bias is measured without a clean image, in two ways. A tone curve maps the median to the median,
so the median of the residual shows the bias. So does the mean in linear light, coded again. In
shadows that clip at black the mean is too bright and the median too dark, so the bias is taken
midway between them. Over the intensities that are hardly clipped, the two must agree that there is
a tone curve; else nothing is corrected.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from amsnet_cli.noise.curve import interpolate
from amsnet_cli.photos.srgb import decode_srgb, encode_srgb
from amsnet_cli.postprocess.config import PostprocessConfig

RESIDUAL_BINS = 2041
"""Bins of the residual from -1 to 1: four to a step of 8-bit images."""
TONES = 4096
"""Steps of the table of biases: the nearest is within a hundredth of 1/255."""
SAMPLED_PIXELS = 1 << 17
"""About how many pixels of an image are counted."""


class ResidualHistogram:
    """Histograms of the residual, by channel and intensity.

    Pixels are counted where they are, and the counts kept on the CPU.

    Args:
        channels: C, 1 or 3.
        config: see `PostprocessConfig`.
    """

    def __init__(self, channels: int, config: PostprocessConfig = PostprocessConfig()) -> None:
        self._config = config
        size = (channels, config.intensity_bins)
        self._counts = torch.zeros(*size, RESIDUAL_BINS, dtype=torch.int64)
        self._light = torch.zeros(2, *size, dtype=torch.float64)
        self._clipped = torch.zeros(size, dtype=torch.float64)

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

    def bias(self) -> Tensor:
        """Estimate how much too dark the denoised image is, by intensity.

        Returns:
            (C, intensity_bins) float32 in [0, 1] units, to be added; on the CPU. Midway between the
            median of the residual and the light that was lost; 0 without a tone curve.
        """
        counts = _with_neighbours(self._counts.double())
        total = counts.sum(2)  # (C, I)
        mean, median = _mean_and_median(counts, total)
        noisy_light, denoised_light = (
            encode_srgb(_with_neighbours(light) / total.clamp_min(1), torch.where)
            for light in self._light
        )
        lost_light = noisy_light - denoised_light

        clipped = _with_neighbours(self._clipped) / total.clamp_min(1)
        # Where half is clipped, the median is black or white itself.
        known = (self._counts.sum(2) >= self._config.min_pixels) & (clipped < 0.5)
        unclipped = (1 - clipped / self._config.block_stats.max_clipped).clamp_min(0)
        trusted = total * unclipped.square() * known
        skew, expected = (float((trusted * (x - mean)).sum()) for x in (median, lost_light))
        if expected <= 0:
            return torch.zeros(total.shape)
        confidence = 2 * skew / (self._config.tone_curve * expected) - 1
        bias = min(1.0, max(0.0, confidence)) * (median + lost_light) / 2
        return torch.stack([_fill_unknown(*line) for line in zip(bias, known, strict=True)])


def bias_by_tone(bias: Tensor) -> Tensor:
    """Interpolate the bias linearly between the bins' centres.

    Args:
        bias: (C, intensity_bins), from `ResidualHistogram.bias`.

    Returns:
        (C, TONES + 1), at evenly spaced tones from 0 to 1.
    """
    position = torch.linspace(-0.5, bias.shape[1] - 0.5, TONES + 1, device=bias.device)
    return torch.stack([interpolate(curve, position) for curve in bias])


def correct_brightness(denoised: Tensor, bias: Tensor) -> Tensor:
    """Add the bias of the nearest tone.

    Args:
        denoised: (C, h, w) float32.
        bias: (C, TONES + 1), from `bias_by_tone`.

    Returns:
        (C, h, w).
    """
    tone = (denoised * TONES + 0.5).clamp_(0, TONES).int()
    # `index_select` is several times as fast as indexing.
    added = [of.index_select(0, t.flatten()) for of, t in zip(bias, tone, strict=True)]
    return torch.stack(added).view_as(denoised).add_(denoised)


def sampling(height: int, width: int) -> tuple[int, int]:
    """Row and column steps between the pixels that `ResidualHistogram` counts.

    The steps are odd. Even ones would only meet pixels of one colour of the sensor's mosaic, whose
    noise differs from that of interpolated pixels. Rows are cheaper to skip.
    """
    columns = math.isqrt(height * width // (3 * SAMPLED_PIXELS)) | 1
    return 3 * columns if height * width >= SAMPLED_PIXELS else 1, columns


def _with_neighbours(values: Tensor) -> Tensor:
    """Binomial sums over neighbouring intensities, of (C, I) or (C, I, N).

    Residual noise spreads the pixels of one tone over two bins. Each alone would show that noise as
    a bias.
    """
    sums = values.clone()
    sums[:, 1:] += 0.5 * values[:, :-1]
    sums[:, :-1] += 0.5 * values[:, 1:]
    return sums


def _mean_and_median(counts: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and median of histograms over [-1, 1], (C, I, N) to (C, I) each."""
    bins = counts.shape[2]
    values = torch.linspace(-1, 1, bins, dtype=torch.float64)
    mean = (counts * values).sum(2) / total.clamp_min(1)
    reached = counts.cumsum(2)
    middle = (reached < total[..., None] / 2).sum(2).clamp_max(bins - 1)  # the median's bin
    inside = counts.gather(2, middle[..., None])[..., 0].clamp_min(1)
    before = reached.gather(2, middle[..., None])[..., 0] - inside
    width = 2 / (bins - 1)
    return mean, values[middle] + width * ((total / 2 - before) / inside - 0.5)


def _linear(coded: Tensor) -> Tensor:
    light: Tensor = decode_srgb(coded.clamp(0, 1), torch.where)
    return light


def _fill_unknown(bias: Tensor, known: Tensor) -> Tensor:
    """Give intensities whose bias is unknown that of the nearest known one, (I,); 0 without any."""
    places = torch.nonzero(known).flatten()
    if not len(places):
        return torch.zeros(len(bias))
    nearest = (torch.arange(len(bias))[:, None] - places).abs().argmin(1)
    return bias[places[nearest]].float()
