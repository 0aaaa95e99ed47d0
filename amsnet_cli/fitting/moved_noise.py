"""Noise of a photo, taken from a quiet place of it and moved to another.

A noise model draws stationary Gaussian noise. That of a photo is not: it is clipped at black, it
depends on the blocks of a JPEG and on the phase of a mosaic, and noise reduction has changed it.
What a first denoised version lacks in a quiet place has all of this, and hardly any texture.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.fitting.images import to_tensor
from amsnet_cli.fitting.patches import PatchSpec
from amsnet_cli.noise.curve import interpolate
from amsnet_cli.noise.model import NoiseModel
from amsnet_cli.photos.photo import Pixels


@dataclass(frozen=True, kw_only=True)
class MovedNoiseConfig:
    """Where noise is taken from.

    Attributes:
        period: it is moved by multiples of this, in pixels: the size of JPEG's blocks where the
            colours are subsampled, and a multiple of the periods of most mosaics.
        least_distance: by which it is moved at least, in rows or in columns, so that it is
            uncorrelated with the noise of the place that it is moved to.
        similar: fraction of the places that are nearest in brightness, of which one is taken.
        quietest: one of so many of them is taken, those with the least structure.
        least_level: noise level, in [0, 1] units, that levels are divided by at least.
    """

    period: int = 16
    least_distance: int = 48
    similar: float = 0.3
    quietest: int = 4
    least_level: float = 1e-4


class MovedNoise:
    """Moves the noise of a photo.

    Args:
        noisy: (H, W, 3) as stored.
        denoised: (H, W, 3), a first denoised version of it.
        model: of its noise; only the level by brightness is used.
        side: S, of the squares that are moved.
        config: see `MovedNoiseConfig`.
    """

    def __init__(
        self,
        noisy: Pixels,
        denoised: Pixels,
        model: NoiseModel,
        side: int,
        config: MovedNoiseConfig = MovedNoiseConfig(),
    ) -> None:
        self.noisy, self.denoised, self.levels = noisy, denoised, model.levels
        self.side, self.config = side, config
        blocks = max(1, side // config.period)
        self._brightness = self._structure = torch.zeros(0, 0)
        if min(noisy.shape[:2]) >= blocks * config.period:
            luma = to_tensor(denoised).mean(0)[None, None]
            mean = F.avg_pool2d(luma, config.period)
            variance = F.avg_pool2d(luma.square(), config.period) - mean.square()
            # (h, w), of the squares on a grid of `period`
            self._brightness = F.avg_pool2d(mean, blocks, stride=1)[0, 0]
            self._structure = F.avg_pool2d(variance, blocks, stride=1)[0, 0]

    def take(self, spec: PatchSpec, generator: torch.Generator) -> list[Tensor]:
        """Return noises for a square, each (3, S, S) float32, as strong as at its brightness.

        The first is that of the square itself, moved by half its side. It has all that the first
        version lacks there, texture as well. The second is from a quiet place, where there is only
        noise, but maybe less of it; in small photos there is none.
        """
        here = to_tensor(spec.cut(self.denoised))
        half = (self.side // 2, self.side // 2)
        in_place, moved = to_tensor(spec.cut(self.noisy)) - here, here.roll(half, (1, 2))
        noises = [in_place.roll(half, (1, 2)) * self._ratio(here, moved)]
        corner = self._quiet_corner(spec, float(here.mean()), generator)
        if corner is not None:
            there = dataclasses.replace(spec, top=corner[0], left=corner[1])
            denoised = to_tensor(there.cut(self.denoised))
            noise = to_tensor(there.cut(self.noisy)) - denoised
            noises.append(noise * self._ratio(here, denoised))
        return noises

    def _quiet_corner(
        self, spec: PatchSpec, brightness: float, generator: torch.Generator
    ) -> tuple[int, int] | None:
        """Draw one of the quietest squares of about that brightness."""
        period, least = self.config.period, self.config.least_distance
        height, width = self.noisy.shape[:2]
        rows = torch.arange(spec.top % period, max(0, height - self.side) + 1, period)
        columns = torch.arange(spec.left % period, max(0, width - self.side) + 1, period)
        rows, columns = rows[: len(self._structure)], columns[: self._structure.shape[1]]
        far = (rows - spec.top).abs()[:, None].maximum((columns - spec.left).abs()) >= least
        if not far.any():
            return None
        distance = (self._brightness[: len(rows), : len(columns)] - brightness).abs()
        similar = far & (distance <= distance[far].quantile(self.config.similar))
        structure = self._structure[: len(rows), : len(columns)]
        ranked = structure.where(similar, torch.inf).flatten().argsort()
        best = ranked[: min(self.config.quietest, int(similar.sum()))]
        place = int(best[torch.randint(len(best), (1,), generator=generator)])
        return int(rows[place // len(columns)]), int(columns[place % len(columns)])

    def _ratio(self, here: Tensor, there: Tensor) -> Tensor:
        """Noise level of (3, S, S) `here` over that of `there`, (S, S)."""
        brightness = torch.stack([here, there]).mean(1).clamp(0, 1)
        level = interpolate(self.levels, brightness * (len(self.levels) - 1))
        return level[0] / level[1].clamp_min(self.config.least_level)
