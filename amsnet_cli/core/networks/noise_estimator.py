"""A network that estimates the noise of a photo from the photo alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amsnet_cli.core.photo_noise import CHANNELS, LEVELS, SPECTRUM, PhotoNoise

CELL = 8
"""Side in pixels of the cells in which noise is estimated first."""
PIXELS_AT_A_TIME = 1 << 16
"""About how many pixels are filtered at a time, so that what they become stays in the cache."""


@dataclass(frozen=True, kw_only=True)
class NoiseEstimatorConfig:
    """Shape of a `NoiseEstimator`.

    Attributes:
        fine: filters of 5 x 5 pixels.
        coarse: filters of 5 x 5 means of 2 x 2 pixels.
        width: features of a cell.
        blocks: residual blocks that compare neighbouring cells.
        neighbour_share: how much a cell counts for brightnesses other than its own, before the
            distance between them is counted. Where all pixels of a brightness are texture, its
            noise comes from the others.
        neighbour_reach: distance, in `photo_noise.LEVELS`, over which that share falls to 1/e.
    """

    fine: int = 24
    coarse: int = 16
    width: int = 64
    blocks: int = 3
    neighbour_share: float = 1.0
    neighbour_reach: float = 4.0


@dataclass(frozen=True, kw_only=True)
class NoiseCells:
    """Estimates in each cell of B photos, (B, _, h, w) float32.

    Attributes:
        log_sigma: 3 channels, natural logarithm of the standard deviation on a scale of 255.
        log_error: 1 channel, logarithm of the mean absolute error expected of `log_sigma`.
        spectrum: `SPECTRUM` channels, see `photo_noise.spectrum_of`.
        brightness: 3 channels, the cell's mean in [0, 1].
    """

    log_sigma: Tensor
    log_error: Tensor
    spectrum: Tensor
    brightness: Tensor


class NoiseEstimator(nn.Module):
    """Learned filters, their energy in cells, and a few convolutions over cells.

    Noise is what the filters answer to where there is no texture; a cell and its neighbours tell
    which of the two it is, and the network says how sure it is. So textured cells count little in
    the photo's noise. It is trained on simulated noise with a Laplace likelihood.
    """

    def __init__(self, config: NoiseEstimatorConfig = NoiseEstimatorConfig()) -> None:
        super().__init__()
        self.config = config
        self.fine, self.coarse = FilterBank(config.fine), FilterBank(config.coarse)
        features = 2 * (config.fine + config.coarse) + 3 * CHANNELS
        self.head = nn.Conv2d(features, config.width, 1)
        self.trunk = nn.Sequential(*(CellBlock(config.width) for _ in range(config.blocks)))
        self.tail = nn.Conv2d(config.width, CHANNELS + 1 + SPECTRUM, 1)

    def forward(self, photo: Tensor) -> NoiseCells:
        """Estimate the noise of cells of (B, 3, H, W) float32 in [0, 1], sides multiples of 8."""
        return self._cells(self._features(photo))

    @torch.no_grad()
    def estimate(self, photos: Tensor, *, one_photo: bool = False) -> PhotoNoise:
        """Estimate the noise of photos.

        Args:
            photos: (B, 3, H, W) float32 in [0, 1], any size.
            one_photo: whether they are parts of one photo.

        Returns:
            Noise of B photos, or of one.
        """
        height, width = photos.shape[2:]
        if min(height, width) < CELL:
            missing = (0, max(0, CELL - width), 0, max(0, CELL - height))
            photos = F.pad(photos, missing, mode="replicate")
            height, width = photos.shape[2:]
        whole = photos[..., : height // CELL * CELL, : width // CELL * CELL]
        with torch.autocast(photos.device.type, enabled=False):
            rows = CELL * max(1, PIXELS_AT_A_TIME // (CELL * width))
            features = torch.cat([self._features(photo, rows) for photo in torch.split(whole, 1)])
            return self.summarise(self._cells(features), one_photo=one_photo)

    def _features(self, photo: Tensor, rows: int | None = None) -> Tensor:
        """Energies, brightness and clipped shares of cells; filters `rows` at a time."""
        photo = photo.contiguous()
        pixels = 255 * photo
        brightness = F.avg_pool2d(photo, CELL)
        clipped = [
            F.avg_pool2d(at.to(photo.dtype), CELL) for at in (pixels <= 0.5, pixels >= 254.5)
        ]
        energies = [
            self.fine(pixels, CELL, rows),
            self.coarse(F.avg_pool2d(pixels, 2), CELL // 2, rows and rows // 2),
        ]
        return torch.cat([*energies, brightness, *clipped], 1)

    def _cells(self, features: Tensor) -> NoiseCells:
        energies = 2 * (self.config.fine + self.config.coarse)
        energy, brightness, clipped = torch.split(features, [energies, CHANNELS, 2 * CHANNELS], 1)
        x = torch.cat([0.3 * energy, 2 * brightness - 1, clipped], 1)
        x = self.tail(self.trunk(F.leaky_relu(self.head(x), 0.1)))
        log_sigma, log_error, spectrum = x.split([CHANNELS, 1, SPECTRUM], 1)
        return NoiseCells(
            log_sigma=2 * log_sigma, log_error=log_error, spectrum=spectrum, brightness=brightness
        )

    def summarise(self, cells: NoiseCells, *, one_photo: bool = False) -> PhotoNoise:
        """Average cells by brightness, weighted by how sure they are (inverse variance)."""
        log_sigma, log_error, spectrum, brightness = (
            x.flatten(2).transpose(0, 1).flatten(1)[None] if one_photo else x.flatten(2)
            for x in (cells.log_sigma, cells.log_error, cells.spectrum, cells.brightness)
        )  # (B, _, N)
        weight = torch.exp(-2 * log_error.clamp(-4, 3))  # (B, 1, N)
        weight = weight / weight.mean(2, keepdim=True)
        levels = torch.arange(LEVELS, dtype=weight.dtype, device=weight.device)
        position = brightness.clamp(0, 1).sqrt() * (LEVELS - 1)
        near = (1 - (position[..., None] - levels).abs()).clamp_min(0) * weight[..., None]
        total, sums = near.sum(2), (near * log_sigma[..., None]).sum(2)  # (B, 3, LEVELS)
        apart = (levels[:, None] - levels).abs()
        shares = self.config.neighbour_share * torch.exp(-apart / self.config.neighbour_reach)
        shares = torch.where(apart == 0, torch.ones_like(shares), shares)
        return PhotoNoise(
            log_sigma=(sums @ shares) / (total @ shares),
            spectrum=(spectrum * weight).sum(2) / weight.sum(2),
        )


class FilterBank(nn.Module):
    """Filters that do not see the mean, and in each cell the size and the peakedness of the answer.

    Args:
        filters: how many, of 5 x 5.
    """

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(filters, CHANNELS, 5, 5))
        if not self.weight.is_meta:  # There, drawing imports all of PyTorch's compiler.
            nn.init.normal_(self.weight, std=0.2)

    def forward(self, x: Tensor, cell: int, rows: int | None = None) -> Tensor:
        """Map (B, 3, H, W) to (B, 2 * filters, H / cell, W / cell).

        Args:
            x: sides multiples of `cell`.
            cell: side in pixels.
            rows: how many to filter at a time, a multiple of `cell`; None for all.
        """
        weight = self.weight - self.weight.mean((2, 3), keepdim=True)
        mode = "reflect" if min(x.shape[2:]) > 2 else "replicate"
        padded = F.pad(x, (2, 2, 2, 2), mode=mode).contiguous(memory_format=torch.channels_last)
        strips = [padded]
        if rows:
            strips = [padded[:, :, top : top + rows + 4] for top in range(0, x.shape[2], rows)]
        answers = (F.conv2d(strip, weight) for strip in strips)
        return torch.cat([_size_and_peakedness(answer, cell) for answer in answers], 2)


def _size_and_peakedness(answer: Tensor, cell: int) -> Tensor:
    power = answer.square()
    mean, mean_square = F.avg_pool2d(power, cell), F.avg_pool2d(power.square(), cell)
    kurtosis = (mean_square + 1e-6) / (mean.square() + 1e-6)
    return torch.cat([(mean + 1e-3).log(), kurtosis.log()], 1)


class CellBlock(nn.Module):
    """x + conv(act(conv(x))), 3x3, over cells."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        changed: Tensor = x + self.second(F.leaky_relu(self.first(x), 0.1))
        return changed
